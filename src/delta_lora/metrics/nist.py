"""NIST (Doddington 2002) as ``measure_scores.py -p`` of tuetschek/e2e-metrics computes it."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from delta_lora.metrics.mteval import Ngram, clipped_matches, count_ngrams

NIST_ORDER = 5
# The length penalty is 1/2 where the hypotheses have 2/3 of the references' length.
_BETA = math.log(2) / math.log(1.5) ** 2


def information(references: Sequence[Sequence[Sequence[str]]]) -> dict[Ngram, float]:
    """Information in bits of each n-gram, orders 1–5: ``log2(count(w1…wn−1) / count(w1…wn))``.

    Counts are over all references of all segments; the empty n-gram counts every token.

    Args:
        references: Per segment, its references as tokens.
    """
    counts: Counter[Ngram] = Counter()
    for segment in references:
        for reference in segment:
            counts[()] += len(reference)
            for order in range(1, NIST_ORDER + 1):
                counts.update(count_ngrams(reference, order))
    return {ngram: math.log2(counts[ngram[:-1]] / count) for ngram, count in counts.items() if ngram}


def nist_statistics(
    hypothesis: Sequence[str], references: Sequence[Sequence[str]], bits: dict[Ngram, float]
) -> NDArray[np.float64]:
    """What NIST adds up over segments, (7,): matched bits of orders 1–5, hypothesis and mean reference length."""
    matched = [
        sum(bits[ngram] * count for ngram, count in clipped_matches(hypothesis, references, order).items())
        for order in range(1, NIST_ORDER + 1)
    ]
    mean_length = sum(len(reference) for reference in references) / len(references)
    return np.array([*matched, len(hypothesis), mean_length], dtype=np.float64)


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
