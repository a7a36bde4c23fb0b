"""WebNLG Challenge 2017: BLEU, METEOR and TER of WebNLG/GenerationEval, as microsoft/LoRA calls it.

Hypotheses and references are lower-cased and split at every non-word character before anything else. Scores are
given for the test entries of Seen categories, of Unseen ones, and for All.
"""

import math
import re
from collections.abc import Sequence

import numpy as np
from nltk.tokenize.destructive import NLTKWordTokenizer
from numpy.typing import ArrayLike, NDArray

from delta_lora.errors import UserError
from delta_lora.metrics.base import Scores, check_items, check_references, select
from delta_lora.metrics.meteor import Meteor, meteor
from delta_lora.metrics.mteval import BLEU_ORDER, bleu_statistics, tokenize
from delta_lora.metrics.ter import smallest_ter

DESCRIPTION = """BLEU (multi-bleu-detok, × 100), METEOR 1.5 and TER (0 to 1) of the WebNLG Challenge 2017, for the
entries of seen categories (S), of unseen ones (U) and for all (A)."""

CITATION = """@inproceedings{gardent2017webnlg, title={The {WebNLG} Challenge: Generating Text from {RDF} Data},
author={Gardent, Claire and Shimorina, Anastasia and Narayan, Shashi and Perez-Beltrachini, Laura},
booktitle={Proceedings of INLG}, pages={124--133}, year={2017}}"""

MAX_REFERENCES = 6
SUBSETS = ("S", "U", "A")

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


class WebNLGResampler:
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
        hypotheses = [_normalize(text) for text in predictions]
        refs = [[_normalize(text) for text in item[:MAX_REFERENCES]] for item in references]
        # METEOR starts first: it loads its tables while the rest is computed.
        with Meteor() as java:
            word_hypotheses = [_words.tokenize(text) for text in hypotheses]
            word_refs = [[_words.tokenize(text) for text in item] for item in refs]
            self._ter = np.array([smallest_ter(h, item) for h, item in zip(word_hypotheses, word_refs, strict=True)])
            self._bleu = np.stack([_bleu_statistics(h, item) for h, item in zip(hypotheses, refs, strict=True)])
            self._meteor = java.statistics(
                [" ".join(words) for words in word_hypotheses],
                [[" ".join(words) for words in item] for item in word_refs],
            )

    def score(self, indices: ArrayLike | None = None) -> Scores:
        """The scores over the entries ``indices``, in the units of :func:`score`."""
        seen, bleu = select(self._seen, indices), select(self._bleu, indices)
        meteor_rows, ter_rows = select(self._meteor, indices), select(self._ter, indices)
        subsets = {"S": seen, "U": ~seen, "A": np.ones_like(seen)}
        present = {name: mask for name, mask in subsets.items() if mask.any()}
        return (
            {f"BLEU-{name}": _bleu(bleu[mask].sum(axis=0)) for name, mask in present.items()}
            | {f"METEOR-{name}": meteor(meteor_rows[mask].sum(axis=0)) for name, mask in present.items()}
            | {f"TER-{name}": float(ter_rows[mask].mean()) for name, mask in present.items()}
        )


def _normalize(text: str) -> str:
    """``gpt2_decode.py --tokenize --lower`` of microsoft/LoRA."""
    return " ".join(" ".join(re.split(r"(\W)", text.lower())).split())


def _bleu_statistics(hypothesis: str, references: list[str]) -> NDArray[np.float64]:
    """Statistics (10,): those of :func:`bleu_statistics`, then the numbers of hypothesis n-grams of orders 1–4."""
    tokens = tokenize(hypothesis)
    totals = np.maximum(len(tokens) - np.arange(BLEU_ORDER), 0)
    return np.concatenate([bleu_statistics(tokens, [tokenize(text) for text in references]), totals])


def _bleu(statistics: NDArray[np.float64]) -> float:
    """BLEU × 100 without smoothing: 0 where an order has no match."""
    matches, totals = statistics[:BLEU_ORDER], statistics[-BLEU_ORDER:]
    length, reference_length = statistics[BLEU_ORDER : BLEU_ORDER + 2]
    if not matches.all():
        return 0.0
    penalty = min(1.0, math.exp(1 - reference_length / length))
    return float(100 * penalty * math.exp(np.log(matches / totals).mean()))
