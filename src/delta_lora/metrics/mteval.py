"""mteval-v13a's tokenizer, and the n-gram counts that BLEU and NIST are made of."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

Ngram = tuple[str, ...]
BLEU_ORDER = 4

_tokenizer = Tokenizer13a()


def tokenize(text: str) -> list[str]:
    """Tokens of ``text`` by the default tokenizer of mteval-v13a (case is kept)."""
    return _tokenizer(text).split()


class Counted:
    """A text's length in tokens, and how often each of its n-grams occurs: counted once, for all that ask.

    Args:
        tokens: the text.
        highest: the longest n-grams that are counted.
    """

    def __init__(self, tokens: Sequence[str], highest: int = BLEU_ORDER) -> None:
        self.length = len(tokens)
        orders = (zip(*(tokens[start:] for start in range(order)), strict=False) for order in range(1, highest + 1))
        self.ngrams = Counter[Ngram](chain.from_iterable(orders))


def clipped_matches(hypothesis: Counted, references: Sequence[Counted]) -> dict[Ngram, int]:
    """The hypothesis's n-grams found in the references, each at most as often as in the one that has most."""
    counts = [reference.ngrams for reference in references]
    matches = {}
    for ngram, times in hypothesis.ngrams.items():
        if most := max(count.get(ngram, 0) for count in counts):
            matches[ngram] = min(times, most)
    return matches


def bleu_statistics(hypothesis: Counted, references: Sequence[Counted]) -> NDArray[np.float64]:
    """What corpus BLEU adds up over segments, (6,): matches of orders 1–4, hypothesis and reference length.

    The reference length is that of the reference closest in length, the shorter of two equally close.
    """
    length = hypothesis.length
    matches = [0] * BLEU_ORDER
    for ngram, times in clipped_matches(hypothesis, references).items():
        if len(ngram) <= BLEU_ORDER:
            matches[len(ngram) - 1] += times
    closest = min((reference.length for reference in references), key=lambda other: (abs(other - length), other))
    return np.array([*matches, length, closest], dtype=np.float64)
