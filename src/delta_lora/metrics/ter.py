"""Translation edit rate exactly as the package ``pyter`` computes it, batched: GenerationEval's TER."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

_TABLE = 1_000_000  # words of the candidates that are measured at once: what bounds the memory
Words = NDArray[np.int64]
Columns = NDArray[np.int32]


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
    lowers it. ``pyter`` measures one candidate after another, each from its first word to its last. Here all that
    move the same run of the reference to the same place share one table, since they differ only in where a common
    end begins; so the work grows with the hypothesis's length, not with its square.
    """
    numbers = {word: number for number, word in enumerate(sorted({*hypothesis, *reference}))}
    target = np.array([numbers[word] for word in reference], dtype=np.int64)
    words = np.array([numbers[word] for word in hypothesis], dtype=np.int64)
    after = _ends(words, target)
    distance = int(after[0, 0])
    least = _least_edits(hypothesis, reference)
    shifts = 0
    while distance > least:
        candidates = _shifts(words, target)
        distances = _after_shift(words, target, candidates, after)
        best = int(distances.min(initial=distance))
        if best == distance:
            break
        # Numbers keep the words' order, and so do their bytes: they decide between equals as the words do.
        equals = candidates[:, distances == best].T.tolist()
        last = max(_shifted(words, *shift).astype(">u4").tobytes() for shift in equals)
        words = np.frombuffer(last, dtype=">u4").astype(np.int64)
        distance, after = best, _ends(words, target)
        shifts += 1
    return (shifts + distance) / len(reference)


def _least_edits(hypothesis: Sequence[str], reference: Sequence[str]) -> int:
    """No order of the hypothesis's words comes nearer to the reference than this."""
    common = sum((Counter(hypothesis) & Counter(reference)).values())
    return max(len(hypothesis), len(reference)) - common


def _shifts(words: Words, target: Words) -> Words:
    """Candidates, (3, candidates): start, length and new place of a run that also occurs in ``target``.

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
    return np.stack([starts, runs, np.minimum(places, count - runs)])


def _shifted(words: Words, start: int, run: int, place: int) -> Words:
    rest = np.concatenate([words[:start], words[start + run :]])
    return np.concatenate([rest[:place], words[start : start + run], rest[place:]])


def _after_shift(words: Words, target: Words, shifts: Words, after: Columns) -> Words:
    """The distance of each candidate of :func:`_shifts`; ``after``: :func:`_ends` of ``words``.

    From where a candidate's words are those of ``words`` again, ``after`` has the rest. Before that, all runs that move
    to the left share a sequence if they are equal and go to the same place: its words until the run's old place.
    """
    starts, runs, places = shifts
    left = starts > places
    kinds = np.where(left, len(target) * places + runs, -1 - np.arange(len(starts)))
    _, first, rows = np.unique(kinds, return_index=True, return_inverse=True)
    sequences = [
        np.concatenate([words[:place], words[start : start + run], words[place:]])[: len(words)]
        if start > place
        else _shifted(words, start, run, place)
        for start, run, place in shifts[:, first].T.tolist()
    ]
    ends = np.where(left, starts, places) + runs
    found = np.empty(len(starts), dtype=np.int64)
    step = max(1, _TABLE // (len(words) + 1))
    for begin in range(0, len(sequences), step):
        columns = _columns(np.stack(sequences[begin : begin + step]), target)
        table = np.stack(
            [(column + rest[:, np.newaxis]).min(axis=0) for column, rest in zip(columns, after, strict=True)]
        )
        part = (rows >= begin) & (rows < begin + step)
        found[part] = table[ends[part], rows[part] - begin]
    return found


def _ends(words: Words, target: Words) -> Columns:
    """Levenshtein distances of every end of ``words`` to every end of ``target``: (words + 1, target + 1).

    Each is with the offset that :func:`_columns` leaves out, so that their sums are distances.
    """
    columns = np.stack([column[:, 0].copy() for column in _columns(words[np.newaxis, ::-1], target[::-1])])
    return columns[::-1, ::-1] + np.int32(len(target))


def _columns(sequences: Words, target: Words) -> Iterator[Columns]:
    """Levenshtein distances of the first 0, 1, … words of each row of ``sequences`` to every beginning of ``target``.

    Each is an array (target + 1, sequences), minus the beginning's length; the next one takes its place.
    """
    # Rows are positions of the target, so that numpy's inner loop runs over the sequences. Without the beginnings'
    # lengths an insertion costs nothing and becomes a running minimum.
    column = np.zeros((len(target) + 1, len(sequences)), dtype=np.int32)
    yield column
    for step, word in enumerate(sequences.T, start=1):
        substituted = column[:-1] - (target[:, np.newaxis] == word[np.newaxis, :])
        np.minimum(column[1:] + 1, substituted, out=column[1:])
        column[0] = step
        np.minimum.accumulate(column, axis=0, out=column)
        yield column
