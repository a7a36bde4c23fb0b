"""mteval-v13a's tokenizer, and the n-gram counts that BLEU and NIST are made of."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

Ngram = tuple[str, ...]
BLEU_ORDER = 4

_tokenizer = Tokenizer13a()


def tokenize(text: str) -> list[str]:
    """Tokens of ``text`` by the default tokenizer of mteval-v13a (case is kept)."""
    return _tokenizer(text).split()


def count_ngrams(tokens: Sequence[str], order: int) -> Counter[Ngram]:
    """How often each n-gram of length ``order`` occurs in ``tokens``."""
    return Counter(tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1))


def clipped_matches(hypothesis: Sequence[str], references: Sequence[Sequence[str]], order: int) -> dict[Ngram, int]:
    """The hypothesis's n-grams found in the references, each at most as often as in the one that has most."""
    most: Counter[Ngram] = Counter()
    for reference in references:
        most |= count_ngrams(reference, order)
    return dict(count_ngrams(hypothesis, order) & most)


def bleu_statistics(hypothesis: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """What corpus BLEU adds up over segments, (6,): matches of orders 1–4, hypothesis and reference length.

    The reference length is that of the reference closest in length, the shorter of two equally close.
    """
    length = len(hypothesis)
    matches = [sum(clipped_matches(hypothesis, references, n).values()) for n in range(1, BLEU_ORDER + 1)]
    closest = min((len(reference) for reference in references), key=lambda other: (abs(other - length), other))
    return np.array([*matches, length, closest], dtype=np.float64)
