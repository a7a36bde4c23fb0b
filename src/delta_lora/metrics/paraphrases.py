"""METEOR's table of paraphrases, and of it what given texts can use.

Reading all 5.3 million pairs takes METEOR six seconds of processor time; the texts of a task can use a twentieth of
them. A pair can match only where all its words occur, so a table without the other pairs, in the same order, gives the
same alignments. Which pairs those are is looked up in an index, made once (about seven seconds) and kept in the cache.
"""

import gzip
import logging
import re
import zipfile
import zlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from delta_lora.errors import UserError
from delta_lora.files import locked, whole
from delta_lora.metrics.java import coco_file
from delta_lora.places import place, variable

log = logging.getLogger(__name__)

_VERSION = 1  # of the index's format
_RUN = re.compile(r"[a-z0-9]+")
_DOTTED = re.compile(r"[a-z0-9]+(?:\.[a-z0-9]+)*")


def table() -> Path:
    """The table that pycocoevalcap brings.

    Raises:
        UserError: it is missing.
    """
    return coco_file("meteor/data/paraphrase-en.gz")


class Index:
    """The pairs of a table by their rarest word.

    Args:
        path: an ``.npz`` that :func:`make_index` has written. Its arrays, with the words in order of falling frequency:
            ``words`` (their text, one a line), ``lengths`` (pairs, 2) words of the two phrases of a pair, ``ids`` the
            words of all pairs, ``number`` (pairs,) a pair's place in the table, ``pairs`` and ``starts`` (words + 1,)
            where in ``lengths`` and in ``ids`` the pairs begin of which a word is the rarest.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with np.load(path) as arrays:
            self.words: list[str] = arrays["words"].tobytes().decode().split("\n")

    def known(self, texts: Iterable[str]) -> NDArray[np.bool_]:
        """Which of the table's words can stand in ``texts`` (lower-case), (words,), after METEOR's normalization.

        That parts words at other characters and takes the dots out of abbreviations ("u.s." → "us"), so a word of the
        table is looked for by its runs of letters and digits.
        """
        dotted = {run for text in texts for run in _DOTTED.findall(text)}
        runs = {run for word in dotted for run in (*word.split("."), word.replace(".", ""))}
        return np.array([word in runs or runs.issuperset(_RUN.findall(word)) for word in self.words])

    def write(self, known: NDArray[np.bool_], target: Path) -> None:
        """Write the table of all pairs that are made of ``known`` words, in the order and form of the original."""
        with np.load(self._path) as arrays:
            lengths, ids, number = arrays["lengths"], arrays["ids"], arrays["number"]
            pairs, starts = arrays["pairs"], arrays["starts"]
        rarest = np.flatnonzero(known)
        chosen = np.concatenate([np.arange(pairs[word], pairs[word + 1]) for word in rarest])
        words = np.concatenate([ids[starts[word] : starts[word + 1]] for word in rarest])
        each = lengths[chosen].sum(axis=1, dtype=np.int64)
        kept = np.logical_and.reduceat(known[words], np.cumsum(each) - each)
        begins = (np.cumsum(each) - each)[kept]
        order = np.argsort(number[chosen][kept])
        texts = [self.words[word] for word in rarest]
        place = (np.cumsum(known) - 1)[words]  # of each word in these
        target.write_bytes(gzip.compress(_lines(texts, place, begins[order], lengths[chosen][kept][order]), 1))


def _lines(texts: list[str], words: NDArray[np.int64], begins: NDArray[np.int64], lengths: NDArray[np.uint8]) -> bytes:
    """The pairs whose ``words`` begin at ``begins``: each a probability, which METEOR does not use, and two phrases."""
    each = lengths.sum(axis=1, dtype=np.int64)
    last = np.cumsum(each)
    first = last - each
    chosen = words[np.repeat(begins - first, each) + np.arange(each.sum())]
    opening, closing = np.zeros((2, len(chosen)), dtype=np.int64)
    opening[first] = closing[last - 1] = closing[first + lengths[:, 0] - 1] = 1
    forms = [before + text + after for before in ("", "0\n") for after in (" ", "\n") for text in texts]
    return "".join(np.array(forms, dtype=object)[chosen + len(texts) * (2 * opening + closing)].tolist()).encode()


@cache
def index() -> Index | None:
    """The index of :func:`table`, made where there is none; None where it cannot be kept or made."""
    try:
        with table().open("rb") as file:  # a gzip file ends in its content's CRC-32 and length
            file.seek(-8, 2)
            content = file.read().hex()
        folder = place("DELTA_LORA_CACHE", variable("DELTA_LORA_CACHE", "~/.cache/delta-lora")) / "meteor"
        path = folder / f"paraphrases-{content}-v{_VERSION}.npz"
        if (found := _read(path)) is not None:
            return found
        folder.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock")):
            if _read(path) is None:
                make_index(table(), path)
        return _read(path)
    except (OSError, UserError, ValueError) as error:
        log.info("METEOR reads its whole table (%s)", error)
        return None


def _read(path: Path) -> Index | None:
    """The index in a file, all of whose arrays are as they were written; None for none."""
    try:
        with zipfile.ZipFile(path) as file:
            return Index(path) if file.testzip() is None else None
    except (FileNotFoundError, zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError):
        return None


def make_index(source: Path, target: Path) -> None:
    """Write the :class:`Index` of the table ``source``.

    Raises:
        ValueError: the table is not three lines a pair, or has more than 65,536 different words.
        OSError: ``target`` cannot be written.
    """
    import pyarrow
    import pyarrow.compute

    with gzip.open(source) as file:
        text = file.read()
    ends = np.flatnonzero(np.frombuffer(text, dtype=np.uint8) == ord("\n"))
    if len(ends) % 3 or not text.endswith(b"\n"):
        raise ValueError(f"{source} is not three lines a pair")
    begins = np.append(0, ends + 1).astype(np.int32)
    lines = pyarrow.StringArray.from_buffers(len(ends), pyarrow.py_buffer(begins), pyarrow.py_buffer(text))
    phrases = lines.take(pyarrow.array(np.arange(len(ends)).reshape(-1, 3)[:, 1:].ravel()))
    split = pyarrow.compute.ascii_split_whitespace(pyarrow.compute.ascii_trim_whitespace(phrases))
    lengths = np.diff(split.offsets.to_numpy()).reshape(-1, 2)
    coded = split.values.dictionary_encode()
    del text, lines, phrases, split
    words = coded.dictionary.to_pylist()
    if len(words) > 1 << 16 or "" in words or lengths.min() < 1 or lengths.max() > 100:
        raise ValueError(f"{source} has words or phrases of another kind")
    ids = coded.indices.to_numpy()
    falling = np.argsort(-np.bincount(ids), kind="stable")
    rank = np.empty(len(falling), dtype=np.uint16)
    rank[falling] = np.arange(len(falling))
    ids = rank[ids]
    each = lengths.sum(axis=1)
    first = np.cumsum(each) - each
    rarest = np.maximum.reduceat(ids, first)
    number = np.argsort(rarest, kind="stable").astype(np.int32)
    sizes = each[number]
    moved = np.cumsum(sizes)
    bounds = np.searchsorted(rarest[number], np.arange(len(words) + 1))
    with whole(target) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            words=np.frombuffer("\n".join(words[word] for word in falling).encode(), dtype=np.uint8),
            lengths=lengths[number].astype(np.uint8),
            ids=ids[np.repeat(first[number] - (moved - sizes), sizes) + np.arange(moved[-1])],
            number=number,
            pairs=bounds,
            starts=np.append(0, moved)[bounds],
        )
