"""ROUGE-L and CIDEr of coco-caption, per segment, on PTB tokens: its formulas, several times as fast."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from delta_lora.metrics.mteval import BLEU_ORDER, Counted, Ngram

_BETA = 1.2  # recall against precision in ROUGE-L
_SIGMA = 6.0  # of CIDEr's length penalty, in tokens


def rouge_l(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """ROUGE-L F-measure of each segment (β = 1.2; the best precision with the best recall), 0 to 1."""
    return np.array([_rouge_l(h.split(" "), refs) for h, refs in zip(hypotheses, references, strict=True)])


def _rouge_l(hypothesis: list[str], references: Sequence[str]) -> float:
    places: dict[str, int] = {}  # token → bits at its positions in the hypothesis
    for position, token in enumerate(hypothesis):
        places[token] = places.get(token, 0) | 1 << position
    others = [reference.split(" ") for reference in references]
    common = [_longest_common(places, len(hypothesis), reference) for reference in others]
    precision = max(common) / len(hypothesis)
    recall = max(length / len(reference) for length, reference in zip(common, others, strict=True))
    if not precision or not recall:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _longest_common(places: dict[str, int], length: int, other: list[str]) -> int:
    """Length of the longest common subsequence; a row of the usual table is the bits of one number (Hyyrö 2004)."""
    full = row = (1 << length) - 1
    for token in other:
        matched = row & places.get(token, 0)
        row = (row + matched | row - matched) & full
    return length - row.bit_count()


def cider(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """CIDEr of each segment, 0 to 10; the document frequencies are those of all the references given.

    By order of n-gram: the cosine of tf-idf vectors, each of the hypothesis's entries cut at the reference's, times
    ``exp(−δ² / 2σ²)`` for δ tokens' difference in length; the mean over the orders and references, times ten.
    """
    if not any(reference for refs in references for reference in refs):
        return np.zeros(len(hypotheses))  # references of punctuation alone: the original stops with an exception
    counted = [[Counted(reference.split()) for reference in refs] for refs in references]
    documents: Counter[Ngram] = Counter()
    for item in counted:
        documents.update({ngram for reference in item for ngram in reference.ngrams})
    most = math.log(len(counted))
    logs = {count: math.log(count) for count in set(documents.values())}
    idf = {ngram: most - logs[count] for ngram, count in documents.items()}
    pairs = zip(hypotheses, counted, strict=True)
    return np.array([_cider(Counted(hypothesis.split()), item, idf, most) for hypothesis, item in pairs])


def _cider(hypothesis: Counted, references: Sequence[Counted], idf: dict[Ngram, float], unseen: float) -> float:
    weights = {ngram: count * idf.get(ngram, unseen) for ngram, count in hypothesis.ngrams.items()}
    norms = _norms(weights.items())
    total = 0.0
    for reference in references:
        shared = [0.0] * BLEU_ORDER
        for ngram, weight in weights.items():
            if ngram in reference.ngrams:
                its = reference.ngrams[ngram] * idf[ngram]
                shared[len(ngram) - 1] += min(weight, its) * its
        its_norms = _norms((ngram, count * idf[ngram]) for ngram, count in reference.ngrams.items())
        # The original's lengths are numbers of bigrams.
        difference = max(hypothesis.length - 1, 0) - max(reference.length - 1, 0)
        penalty = math.exp(-(difference**2) / (2 * _SIGMA**2))
        total += penalty * sum(
            product / (norm * its) for product, norm, its in zip(shared, norms, its_norms, strict=True) if product
        )
    return 10 * total / BLEU_ORDER / len(references)


def _norms(weights: Iterable[tuple[Ngram, float]]) -> list[float]:
    """Euclidean norm of the weights of each order of n-gram."""
    squares = [0.0] * BLEU_ORDER
    for ngram, weight in weights:
        squares[len(ngram) - 1] += weight * weight
    return [math.sqrt(square) for square in squares]
