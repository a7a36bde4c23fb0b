"""WebNLG Challenge 2017: BLEU, METEOR and TER of WebNLG/GenerationEval, as microsoft/LoRA calls it.

Hypotheses and references are lower-cased and split at every non-word character before anything else. Scores are
given for the test entries of Seen categories, of Unseen ones, and for All.
"""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from nltk.tokenize.destructive import NLTKWordTokenizer
from numpy.typing import ArrayLike, NDArray

from delta_lora.errors import UserError
from delta_lora.metrics.base import Resampler, Scores, check_items, check_references, select
from delta_lora.metrics.meteor import meteor, meteor_statistics
from delta_lora.metrics.mteval import BLEU_ORDER, Counted, bleu_statistics, tokenize
from delta_lora.metrics.ter import smallest_ter

DESCRIPTION = """BLEU (multi-bleu-detok, × 100), METEOR 1.5 and TER (0 to 1) of the WebNLG Challenge 2017, for the
entries of seen categories (S), of unseen ones (U) and for all (A)."""

CITATION = """@inproceedings{gardent2017webnlg, title={The {WebNLG} Challenge: Generating Text from {RDF} Data},
author={Gardent, Claire and Shimorina, Anastasia and Narayan, Shashi and Perez-Beltrachini, Laura},
booktitle={Proceedings of INLG}, pages={124--133}, year={2017}}"""

MAX_REFERENCES = 6
SUBSETS = ("S", "U", "A")
_BLEU_SUMS = 2 * BLEU_ORDER + 2

_words = NLTKWordTokenizer()


def score(predictions: Sequence[str], references: Sequence[Sequence[str]], seen: Sequence[bool]) -> Scores:
    """``{"BLEU-S": …, "BLEU-U": …, "BLEU-A": …, "METEOR-S": …, …, "TER-A": …}``: BLEU × 100, METEOR and TER 0 to 1.

    TER is an error: lower is better. A subset without entries has no keys.

    Args:
        predictions: One text per test entry; it may be empty.
        references: Per entry, one or more texts; the first six count.
        seen: Per entry, whether its category occurs in the training data.

    Raises:
        UserError: unequal numbers, an entry without a reference, or a missing Java runtime.
    """
    return WebNLGResampler(predictions, references, seen).score()


def official(scores: Scores, seen: Sequence[bool]) -> dict[str, dict[str, float]]:
    """``scores`` by subset, BLEU with the two decimals that multi-bleu-detok prints."""
    entries = {"S": sum(map(bool, seen)), "U": sum(not flag for flag in seen), "A": len(seen)}
    return {
        subset: {
            "entries": entries[subset],
            "BLEU": round(scores[f"BLEU-{subset}"], 2),
            "METEOR": round(scores[f"METEOR-{subset}"], 6),
            "TER": round(scores[f"TER-{subset}"], 6),
        }
        for subset in SUBSETS
        if entries[subset]
    }


class WebNLGResampler(Resampler):
    """Per-entry statistics of one system's predictions; see :class:`delta_lora.metrics.base.Resampler`.

    Raises:
        UserError: as :func:`score`.
    """

    def __init__(self, predictions: Sequence[str], references: Sequence[Sequence[str]], seen: Sequence[bool]) -> None:
        check_items(predictions, references)
        check_references(references)
        if len(seen) != len(predictions):
            raise UserError(f"{len(seen)} seen flags for {len(predictions)} entries: give one flag per entry")
        self.size = len(predictions)
        self._seen = np.array([bool(flag) for flag in seen])
        self.strata = self._seen.astype(np.intp)  # S and U have scores of their own, so draws keep their numbers
        hypotheses = [_normalize(text) for text in predictions]
        refs = [[_normalize(text) for text in item[:MAX_REFERENCES]] for item in references]
        word_hypotheses = [_words.tokenize(text) for text in hypotheses]
        word_refs = [[_words.tokenize(text) for text in item] for item in refs]
        with ThreadPoolExecutor() as java:  # METEOR aligns meanwhile
            meteor_rows = java.submit(
                meteor_statistics,
                [" ".join(words) for words in word_hypotheses],
                [[" ".join(words) for words in item] for item in word_refs],
            )
            ters = [smallest_ter(h, item) for h, item in zip(word_hypotheses, word_refs, strict=True)]
            bleu = [_bleu_statistics(h, item) for h, item in zip(hypotheses, refs, strict=True)]
        # (entries, 1 + 1 + 10 + 23): one, TER, BLEU's statistics, METEOR's.
        self._statistics = np.column_stack([np.ones(self.size), ters, np.stack(bleu), meteor_rows.result()])

    def score(self, indices: ArrayLike | None = None) -> Scores:
        """The scores over the entries ``indices``, in the units of :func:`score`."""
        seen, rows = select(self._seen, indices), select(self._statistics, indices)
        return {
            name: float(value) for name, value in _by_subset(rows[seen].sum(axis=0), rows[~seen].sum(axis=0)).items()
        }

    def scores(self, counts: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """The scores of many selections, in one product with each subset's statistics."""
        return _by_subset(*(counts[:, of] @ self._statistics[of] for of in (self._seen, ~self._seen)))


def _by_subset(seen: NDArray[np.float64], unseen: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """The scores of the subsets' sums (…, 35): (…); none of a subset that has no entry in any selection."""
    sums = {"S": seen, "U": unseen, "A": seen + unseen}
    present = {name: rows for name, rows in sums.items() if rows[..., 0].any()}
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = (
            {f"BLEU-{name}": _bleu(rows[..., 2 : 2 + _BLEU_SUMS]) for name, rows in present.items()}
            | {f"METEOR-{name}": meteor(rows[..., 2 + _BLEU_SUMS :]) for name, rows in present.items()}
            | {f"TER-{name}": rows[..., 1] / rows[..., 0] for name, rows in present.items()}
        )
    return {name: np.where(sums[name[-1]][..., 0] > 0, values, np.nan) for name, values in scores.items()}


def _normalize(text: str) -> str:
    """``gpt2_decode.py --tokenize --lower`` of microsoft/LoRA."""
    return " ".join(" ".join(re.split(r"(\W)", text.lower())).split())


def _bleu_statistics(hypothesis: str, references: list[str]) -> NDArray[np.float64]:
    """Statistics (10,): those of :func:`bleu_statistics`, then the numbers of hypothesis n-grams of orders 1–4."""
    tokens = tokenize(hypothesis)
    totals = np.maximum(len(tokens) - np.arange(BLEU_ORDER), 0)
    return np.concatenate([bleu_statistics(Counted(tokens), [Counted(tokenize(text)) for text in references]), totals])


def _bleu(statistics: NDArray[np.float64]) -> NDArray[np.float64]:
    """BLEU × 100 of sums (…, 10), without smoothing: 0 where an order has no match."""
    matches, totals = statistics[..., :BLEU_ORDER], statistics[..., -BLEU_ORDER:]
    length, reference_length = statistics[..., BLEU_ORDER], statistics[..., BLEU_ORDER + 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        penalty = np.minimum(1.0, np.exp(1 - reference_length / length))
        score = 100 * penalty * np.exp(np.log(matches / totals).mean(axis=-1))
    return np.where((matches > 0).all(axis=-1), score, 0.0)
