"""Translation edit rate exactly as the package ``pyter`` computes it, batched: GenerationEval's TER."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

_TABLE = 1_000_000  # words of the candidates that are measured at once: what bounds the memory


def smallest_ter(hypothesis: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """The smallest :func:`ter` of ``hypothesis`` to one of ``references``; 1 for a reference without a token."""
    bounds = [_least_edits(hypothesis, reference) / len(reference) if reference else 1.0 for reference in references]
    smallest = float("inf")
    for bound, reference in sorted(zip(bounds, references, strict=True), key=lambda pair: pair[0]):
        if bound >= smallest:
            break
        smallest = min(smallest, ter(hypothesis, reference) if reference else 1.0)
    return smallest


def ter(hypothesis: Sequence[str], reference: Sequence[str]) -> float:
    """Edits that turn ``hypothesis`` into ``reference`` (tokens), over the reference's length (at least one token).

    An edit is an insertion, a deletion, a substitution or the shift of a run of words. Shifts are chosen
    greedily: of all runs that also occur at another position of the reference, moved there, the one is taken
    that lowers the Levenshtein distance most (of equals, the one whose word sequence sorts last), until none
    lowers it. ``pyter`` measures one candidate after another; here one table is filled for many of them at once,
    for so many that the memory stays bounded however long the hypothesis is.
    """
    numbers = {word: number for number, word in enumerate(sorted({*hypothesis, *reference}))}
    target = np.array([numbers[word] for word in reference], dtype=np.int64)
    words = np.array([numbers[word] for word in hypothesis], dtype=np.int64)
    distance = int(_distances(words[np.newaxis], target)[0])
    least = _least_edits(hypothesis, reference)
    shifts = 0
    while distance > least:
        best, shifted = distance, list[int]()
        for orders in _shift_orders(words, target):
            candidates = words[orders]
            distances = _distances(candidates, target)
            lowest = int(distances.min())
            if lowest < distance and lowest <= best:
                # Numbers keep the words' order, so that they decide between equals as the words do.
                last = max(candidates[distances == lowest].tolist())
                best, shifted = lowest, last if lowest < best else max(last, shifted)
        if best == distance:
            break
        distance, words = best, np.array(shifted, dtype=np.int64)
        shifts += 1
    return (shifts + distance) / len(reference)


def _least_edits(hypothesis: Sequence[str], reference: Sequence[str]) -> int:
    """No order of the hypothesis's words comes nearer to the reference than this."""
    common = sum((Counter(hypothesis) & Counter(reference)).values())
    return max(len(hypothesis), len(reference)) - common


def _shift_orders(words: NDArray[np.int64], target: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Permutations of ``words``, arrays (candidates, words): each moves one run that also occurs in ``target``.

    A run starts at any pair (i, j), i ≠ j, of equal words and goes on while the words stay equal; it is cut out
    at i and put back before position j of what is left (at the end, where that is shorter).
    """
    count = len(words)
    equal = words[:, np.newaxis] == target[np.newaxis, :]
    lengths = np.zeros((count + 1, len(target) + 1), dtype=np.int64)
    for i in range(count - 1, -1, -1):
        lengths[i, :-1] = np.where(equal[i], lengths[i + 1, 1:] + 1, 0)
    np.fill_diagonal(equal, False)
    starts, places = np.nonzero(equal)
    runs = lengths[starts, places]
    places = np.minimum(places, count - runs)
    rows = max(1, _TABLE // count)
    for first in range(0, len(starts), rows):
        part = slice(first, first + rows)
        yield _orders(count, starts[part], runs[part], places[part])


def _orders(
    count: int, starts: NDArray[np.int64], runs: NDArray[np.int64], places: NDArray[np.int64]
) -> NDArray[np.int64]:
    position = np.arange(count)
    # New place of each word: within the run, or after it has closed up and made way for the run.
    start, run, place = starts[:, np.newaxis], runs[:, np.newaxis], places[:, np.newaxis]
    inside = (position >= start) & (position < start + run)
    rest = np.where(position >= start + run, position - run, position)
    new = np.where(inside, place + position - start, np.where(rest >= place, rest + run, rest))
    return np.argsort(new, axis=1)


def _distances(sequences: NDArray[np.int64], target: NDArray[np.int64]) -> NDArray[np.int64]:
    """Levenshtein distance of each row of ``sequences`` (candidates, words) to ``target``, one column at a time."""
    offsets = np.arange(len(target) + 1, dtype=np.int32)[:, np.newaxis]
    # Rows are positions of the target, so that numpy's inner loop runs over the candidates. Each column is kept
    # minus its offsets: an insertion then costs nothing and becomes a running minimum.
    column = np.zeros((len(target) + 1, len(sequences)), dtype=np.int32)
    for step, word in enumerate(sequences.T, start=1):
        substituted = column[:-1] - (target[:, np.newaxis] == word[np.newaxis, :])
        np.minimum(column[1:] + 1, substituted, out=column[1:])
        column[0] = step
        np.minimum.accumulate(column, axis=0, out=column)
    return (column + offsets)[-1]
