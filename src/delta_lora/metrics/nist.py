"""NIST (Doddington 2002) as ``measure_scores.py -p`` of tuetschek/e2e-metrics computes it."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from delta_lora.metrics.mteval import Counted, Ngram, clipped_matches

NIST_ORDER = 5
# The length penalty is 1/2 where the hypotheses have 2/3 of the references' length.
_BETA = math.log(2) / math.log(1.5) ** 2


def information(references: Sequence[Sequence[Counted]]) -> dict[Ngram, float]:
    """Information in bits of each n-gram, orders 1–5: ``log2(count(w1…wn−1) / count(w1…wn))``.

    Counts are over all references of all segments; the empty n-gram counts every token.

    Args:
        references: Per segment, its references, counted up to order 5.
    """
    counts: Counter[Ngram] = Counter()
    for segment in references:
        for reference in segment:
            counts[()] += reference.length
            counts.update(reference.ngrams.elements())
    return {ngram: math.log2(counts[ngram[:-1]] / count) for ngram, count in counts.items() if ngram}


def nist_statistics(
    hypothesis: Counted, references: Sequence[Counted], bits: dict[Ngram, float]
) -> NDArray[np.float64]:
    """What NIST adds up over segments, (7,): matched bits of orders 1–5, hypothesis and mean reference length."""
    matched = [0.0] * NIST_ORDER
    for ngram, count in clipped_matches(hypothesis, references).items():
        matched[len(ngram) - 1] += bits[ngram] * count
    mean_length = sum(reference.length for reference in references) / len(references)
    return np.array([*matched, hypothesis.length, mean_length], dtype=np.float64)


def nist(statistics: NDArray[np.float64], segments: ArrayLike) -> NDArray[np.float64]:
    """The NIST score of statistics (…, 7), each summed over ``segments`` (…) segments: (…).

    ``Σ_n bits_n / (hypothesis n-grams) · exp(−β log²(min(1, hypothesis length / reference length)))``. The
    original counts ``length − n + 1`` n-grams in a segment even where that is negative, and so does this.
    """
    bits, length, reference_length = statistics[..., :NIST_ORDER], statistics[..., NIST_ORDER], statistics[..., -1]
    totals = length[..., np.newaxis] - np.multiply.outer(np.asarray(segments), np.arange(NIST_ORDER))
    # Where those counts cancel out to zero the original divides by zero; here that order then adds nothing.
    score = np.divide(bits, totals, out=np.zeros_like(bits), where=totals != 0).sum(axis=-1)
    ratio = np.minimum(length / reference_length, 1)
    return np.asarray(score * np.exp(-_BETA * np.log(ratio) ** 2))
