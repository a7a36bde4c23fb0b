"""E2E NLG Challenge: the five numbers of tuetschek/e2e-metrics.

They are those of ``measure_scores.py -p``, which is how microsoft/LoRA calls it: with ``-p``, BLEU and NIST come from
its Python version of mteval-v13a, which differs from the Perl one where a hypothesis has fewer than four tokens and in
capitals beyond ASCII.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from delta_lora.metrics.base import Resampler, Scores, check_items, check_references, select
from delta_lora.metrics.coco import cider, rouge_l
from delta_lora.metrics.meteor import meteor, meteor_statistics
from delta_lora.metrics.mteval import BLEU_ORDER, Counted, bleu_statistics, tokenize
from delta_lora.metrics.nist import NIST_ORDER, information, nist, nist_statistics
from delta_lora.metrics.ptb import ptb_tokenize

DESCRIPTION = """The official metrics of the E2E NLG Challenge: BLEU and NIST of mteval-v13a, METEOR 1.5, ROUGE-L
and CIDEr of coco-caption. BLEU, METEOR and ROUGE-L are × 100."""

CITATION = """@article{dusek2020evaluating, title={Evaluating the State-of-the-Art of End-to-End Natural
Language Generation: The E2E NLG Challenge}, author={Du{\\v{s}}ek, Ond{\\v{r}}ej and Novikova, Jekaterina and
Rieser, Verena}, journal={Computer Speech \\& Language}, volume={59}, pages={123--156}, year={2020}}"""


def score(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Scores:
    """BLEU, NIST, METEOR, ROUGE-L and CIDEr, keyed as in the paper's tables: BLEU, METEOR and ROUGE-L × 100.

    Args:
        predictions: One text per test item; it may be empty.
        references: Per item, one or more texts.

    Raises:
        UserError: unequal numbers, an item without a reference, or a missing Java runtime.
    """
    return E2EResampler(predictions, references).score()


def official(scores: Scores) -> Scores:
    """``scores`` under the names and in the units that ``measure_scores.py`` prints, with its four decimals."""
    return {
        "BLEU": round(scores["BLEU"] / 100, 4),
        "NIST": round(scores["NIST"], 4),
        "METEOR": round(scores["METEOR"] / 100, 4),
        "ROUGE_L": round(scores["ROUGE-L"] / 100, 4),
        "CIDEr": round(scores["CIDEr"], 4),
    }


class E2EResampler(Resampler):
    """Per-item statistics of one system's predictions; see :class:`delta_lora.metrics.base.Resampler`.

    Raises:
        UserError: as :func:`score`.
    """

    def __init__(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        check_items(predictions, references)
        check_references(references)
        self.size = len(predictions)
        hypotheses = [_one_line(text) for text in predictions]
        refs = [[_one_line(text) for text in item] for item in references]
        all_refs = tuple(text for item in refs for text in item)
        with ThreadPoolExecutor() as java:  # what Java computes meanwhile
            coco_hypotheses, flat = java.submit(ptb_tokenize, hypotheses), java.submit(_reference_tokens, all_refs)
            self._bleu, self._nist = bleu_and_nist_statistics(hypotheses, refs)
            tokens = iter(flat.result())
            coco = coco_hypotheses.result(), [[next(tokens) for _ in item] for item in refs]
            meteor_rows = java.submit(meteor_statistics, *coco)
            self._means = np.stack([rouge_l(*coco), cider(*coco)], axis=1)
            self._meteor = meteor_rows.result()

    def score(self, indices: ArrayLike | None = None) -> Scores:
        """The five scores over the items ``indices``, in the units of :func:`score`."""
        bleu, nist_rows, meteor_rows = (select(rows, indices) for rows in (self._bleu, self._nist, self._meteor))
        summed = _of_sums(bleu.sum(axis=0), nist_rows.sum(axis=0), meteor_rows.sum(axis=0), len(bleu))
        rouge_mean, cider_mean = select(self._means, indices).mean(axis=0)
        scores = {name: float(value) for name, value in summed.items()}
        return scores | {"ROUGE-L": 100 * float(rouge_mean), "CIDEr": float(cider_mean)}

    def scores(self, counts: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """The five scores of many selections, in one product with each metric's statistics."""
        items = counts.sum(axis=1)
        rouge_mean, cider_mean = (counts @ self._means / items[:, np.newaxis]).T
        summed = _of_sums(counts @ self._bleu, counts @ self._nist, counts @ self._meteor, items)
        return summed | {"ROUGE-L": 100 * rouge_mean, "CIDEr": cider_mean}


def _of_sums(
    bleu: NDArray[np.float64], nist_sums: NDArray[np.float64], meteor_sums: NDArray[np.float64], segments: ArrayLike
) -> dict[str, NDArray[np.float64]]:
    """The scores that are made of sums over ``segments`` segments."""
    return {"BLEU": 100 * _bleu(bleu, segments), "NIST": nist(nist_sums, segments), "METEOR": 100 * meteor(meteor_sums)}


def _one_line(text: str) -> str:
    """The official reader takes an item from one line and strips it."""
    return " ".join(text.splitlines()).strip()


def _mteval(text: str) -> Counted:
    # An empty text is one empty token to the original, in a hypothesis as in a reference.
    return Counted([token.lower() for token in tokenize(text)] or [""], NIST_ORDER)


def bleu_and_nist_statistics(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What BLEU (segments, 6) and NIST (segments, 7) add up over segments, each text one line."""
    counted = [[_mteval(text) for text in item] for item in references]
    bits = information(counted)
    pairs = list(zip(map(_mteval, hypotheses), counted, strict=True))
    return (
        np.stack([bleu_statistics(hypothesis, refs) for hypothesis, refs in pairs]),
        np.stack([nist_statistics(hypothesis, refs, bits) for hypothesis, refs in pairs]),
    )


def _bleu(statistics: NDArray[np.float64], segments: ArrayLike) -> NDArray[np.float64]:
    """BLEU, 0 to 1, of sums (…, 6) over ``segments`` (…) segments, with the original's floors in place of zeros.

    As in the original a segment counts ``length − n + 1`` n-grams, even where that is negative.
    """
    matches, length, reference_length = statistics[..., :BLEU_ORDER], statistics[..., -2], statistics[..., -1]
    totals = length[..., np.newaxis] - np.multiply.outer(np.asarray(segments), np.arange(BLEU_ORDER))
    precision = np.log(np.maximum(matches, 1e-15) / np.maximum(totals, 1e-9)).mean(axis=-1)
    penalty = np.where(length > reference_length, 1.0, np.exp(1 - reference_length / length))
    return np.asarray(penalty * np.exp(precision))


@lru_cache(maxsize=2)  # the systems that a process scores have references in common
def _reference_tokens(texts: tuple[str, ...]) -> list[str]:
    return ptb_tokenize(texts)
