"""METEOR reads the paraphrases that the texts can use, and aligns as with all of them."""

import gzip
import random
from pathlib import Path

import numpy as np
import pytest

from delta_lora.metrics import paraphrases
from delta_lora.metrics.meteor import Meteor
from delta_lora.metrics.paraphrases import Index, make_index

WORDS = ["the", "a", "pub", "cheap", "us", "u.s", "'s", "-", "km/h", "river", "10", "no", "café"]


def a_table(path: Path, pairs: int) -> list[tuple[str, str, str]]:
    """A table of random pairs of phrases of 1 to 4 words."""
    draw = random.Random(0)
    lines = [("0.5", *(" ".join(draw.choices(WORDS, k=draw.randint(1, 4))) for _ in range(2))) for _ in range(pairs)]
    path.write_bytes(gzip.compress("".join(f"{p}\n{a}\n{b}\n" for p, a, b in lines).encode()))
    return lines


@pytest.fixture
def small(tmp_path: Path) -> tuple[Index, list[tuple[str, str, str]]]:
    lines = a_table(tmp_path / "table.gz", 300)
    make_index(tmp_path / "table.gz", tmp_path / "index.npz")
    return Index(tmp_path / "index.npz"), lines


@pytest.mark.parametrize("text", ["the cheap pub", "a pub", "qqzx", " ".join(WORDS)])
def test_the_pairs_whose_words_all_occur_are_kept_in_their_order(
    small: tuple[Index, list[tuple[str, str, str]]], tmp_path: Path, text: str
) -> None:
    index, lines = small
    known = index.known([text])
    index.write(known, tmp_path / "part.gz")
    kept = gzip.decompress((tmp_path / "part.gz").read_bytes()).decode().split("\n")[:-1]
    words = {word for word, is_known in zip(index.words, known, strict=True) if is_known}
    expected = [(a, b) for _, a, b in lines if words.issuperset([*a.split(), *b.split()])]
    found = [phrase.strip() for number, phrase in enumerate(kept) if number % 3]
    assert list(zip(found[::2], found[1::2], strict=True)) == expected


def test_words_that_normalization_makes_are_known(small: tuple[Index, list[tuple[str, str, str]]]) -> None:
    """ "U.S." becomes "us"; "Zizzi's" is parted into "zizzi" and "'s"; signs alone may always come of it."""
    index, _ = small
    known = dict(zip(index.words, index.known(["u.s. zizzi's pub-river 10km/h"]), strict=True))
    assert all(known[word] for word in ["us", "'s", "-", "pub", "river", "u.s"])
    assert not known["cheap"] and not known["the"]


def test_a_table_of_another_form_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.gz").write_bytes(gzip.compress(b"0.5\none phrase\n"))
    with pytest.raises(ValueError, match="three lines a pair"):
        make_index(tmp_path / "table.gz", tmp_path / "index.npz")


def test_a_damaged_index_is_none(small: tuple[Index, list[tuple[str, str, str]]], tmp_path: Path) -> None:
    path = tmp_path / "index.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert paraphrases._read(path) is None


def test_a_part_of_the_table_aligns_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paraphrases and all: the jar's statistics are the same to the last number."""
    hypotheses = ["in the u.s. there is a cheap place to eat", "it is near to the river , isn't it ?", "he passed away"]
    references = [["a low-cost restaurant in the us", "cheap food"], ["it is close to the river"], ["he died"]]
    with Meteor() as part:
        found = part.statistics(hypotheses, references)
        assert part._loaded is None or 0 < part._loaded.sum() < 1000
    monkeypatch.setattr(paraphrases, "index", lambda: None)
    with Meteor() as whole:
        expected = whole.statistics(hypotheses, references)
    assert whole._loaded is None
    np.testing.assert_array_equal(found, expected)
    assert found[:, 16:20].any()  # the fourth matcher found some
