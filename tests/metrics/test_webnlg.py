"""The WebNLG metrics equal GenerationEval's as microsoft/LoRA calls it."""

import random
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
from helpers.metrics_odd_inputs import webnlg_entries

from delta_lora.errors import UserError
from delta_lora.metrics import ter as ter_module
from delta_lora.metrics.suite_metric import SuiteMetric
from delta_lora.metrics.ter import smallest_ter, ter
from delta_lora.metrics.webnlg import WebNLGResampler, score


@pytest.fixture(scope="module")
def odd() -> WebNLGResampler:
    return WebNLGResampler(*webnlg_entries())


def test_odd_inputs_equal_the_official_scorer(odd: WebNLGResampler) -> None:
    """Empty and one-word hypotheses, other scripts, moved halves, an empty reference, more than six references.

    The numbers are those of microsoft/LoRA's normalization, Moses' multi-bleu-detok.perl, meteor-1.5.jar
    (``-l en -norm -r 6``, on Debian's OpenJDK 17) and pyter3 0.3 on these entries.
    """
    expected = {
        "BLEU-S": 29.949833,
        "BLEU-U": 32.809884,
        "BLEU-A": 31.280691,
        "METEOR-S": 0.27007044555540227,
        "METEOR-U": 0.28182387660917885,
        "METEOR-A": 0.27557050602740646,
        "TER-S": 0.8547608676064821,
        "TER-U": 0.834067177605421,
        "TER-A": 0.8448580932068324,
    }
    assert odd.score() == pytest.approx(expected, abs=1e-6)


def test_many_selections_at_once_have_the_scores_of_each(odd: WebNLGResampler) -> None:
    drawn = np.random.default_rng(0).integers(odd.size, size=(20, odd.size))
    counts = np.stack([np.bincount(row, minlength=odd.size) for row in drawn]).astype(np.float64)
    assert odd.strata is not None
    counts[-1, odd.strata == 0] = 0  # no unseen entry
    at_once = odd.scores(counts)
    for number, row in enumerate(counts.astype(int)):
        each = odd.score(np.repeat(np.arange(odd.size), row))
        known = {name: values[number] for name, values in at_once.items() if not np.isnan(values[number])}
        assert known == pytest.approx(each, rel=1e-9)


def test_resample_of_one_subset_has_only_its_scores(odd: WebNLGResampler) -> None:
    seen = np.flatnonzero(webnlg_entries()[2])
    scores = odd.score(seen)
    assert set(scores) == {f"{metric}-{name}" for metric in ("BLEU", "METEOR", "TER") for name in "SA"}
    assert scores["METEOR-A"] == scores["METEOR-S"] == odd.score()["METEOR-S"]
    assert odd.score([*seen, *seen]) == pytest.approx(scores)


def test_metric_takes_the_seen_flags() -> None:
    """One perfect entry of each subset; METEOR of an entry that equals its reference is 1, TER 0, BLEU 100."""
    texts = ["the airport serves the city of abilene .", "a b c d e"]
    scores = SuiteMetric("webnlg").compute(predictions=texts, references=[[text] for text in texts], seen=[True, False])
    assert scores == {
        f"{metric}-{subset}": value for metric, value in (("BLEU", 100), ("METEOR", 1), ("TER", 0)) for subset in "SUA"
    }


def test_ter_of_pyters_own_example() -> None:
    reference = "SAUDI ARABIA denied THIS WEEK information published in the AMERICAN new york times"
    hypothesis = "THIS WEEK THE SAUDIS denied information published in the new york times"
    assert ter(hypothesis.split(), reference.split()) == 4 / 13


def test_ter_equals_pyter_on_random_inputs() -> None:
    """Checksums of pyter3 0.3 over 200 seeded pairs, some with shifted runs; see ``random_pairs``."""
    distances = [ter(hypothesis, reference) * len(reference) for hypothesis, reference in random_pairs(200)]
    assert [round(distance) for distance in distances[:20]] == PYTER_FIRST
    assert round(sum(distances)) == PYTER_SUM


def test_smallest_ter_of_several_references() -> None:
    """Looking at the nearest references only must not change the smallest; a reference without words counts as 1."""
    pairs = random_pairs(60)
    for number in range(0, 60, 4):
        hypothesis = pairs[number + 1][0]
        references = [reference for _, reference in pairs[number : number + 4]]
        assert smallest_ter(hypothesis, references) == min(ter(hypothesis, reference) for reference in references)
    assert smallest_ter(["a"] * 9, [["b"], []]) == smallest_ter([], [["b"]]) == 1


def test_ter_equals_pyter_where_it_is_installed() -> None:
    pyter = pytest.importorskip("pyter")
    for hypothesis, reference in random_pairs(500):
        assert ter(hypothesis, reference) == pyter.ter(hypothesis, reference), (hypothesis, reference)


def test_ter_of_long_repetitive_hypotheses_is_fast() -> None:
    """The full test set has 4,928 references: at 10 ms each, TER takes under a minute however bad the system is."""
    hypothesis = "aarhus airport is the the of in a , . " * 6
    reference = "the aarhus airport , in the city of aarhus , is a part of the region and is in denmark ."
    start = time.process_time()
    for _ in range(20):
        ter(hypothesis.split(), reference.split())
    assert (time.process_time() - start) / 20 < 0.05


def test_ter_in_parts_equals_pyter(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few candidates are measured at once, among equals the same one is taken: pyter's checksums again."""
    for table in (1, 40, 97):
        monkeypatch.setattr("delta_lora.metrics.ter._TABLE", table)
        distances = [round(ter(hypothesis, reference) * len(reference)) for hypothesis, reference in random_pairs(200)]
        assert distances[:20] == PYTER_FIRST and sum(distances) == PYTER_SUM


def test_the_work_of_ter_grows_with_a_hypothesis_not_with_its_square(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hypothesis of 4,000 words each candidate was measured from its first word to its last: half a minute."""
    reference, work = ["b", "a", "d", "c", "e", "x", "a", "c", "y", "b", "d", "z", "a"], [0]

    def counted(sequences: Any, target: Any) -> Any:
        for column in columns(sequences, target):
            work[0] += column.size
            yield column

    columns = ter_module._columns
    monkeypatch.setattr(ter_module, "_columns", counted)
    found = []
    for length in (80, 800):
        work[0] = 0
        ter([word for word in "abcde" for _ in range(length // 5)], reference)
        found.append(work[0])
    assert found[1] < 12 * found[0]


def test_ter_of_a_long_hypothesis_takes_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """All candidates at once took 0.5 GB for 3,000 words, growing with the square of the length."""
    monkeypatch.setattr("delta_lora.metrics.ter._TABLE", 50_000)
    hypothesis = [word for word in "abcde" for _ in range(160)]
    reference = ["b", "a", "d", "c", "e", "x", "a", "c", "y", "b", "d", "z", "a"]
    tracemalloc.start()
    ter(hypothesis, reference)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6, "all candidates at once: 64 MB"


@pytest.mark.parametrize(
    ("references", "seen", "message"),
    [
        ([["a"]], [True, False], "2 seen flags for 1 entries"),
        ([["a"], ["b"]], [True, False], "1 predictions for 2 test items"),
        ([[]], [True], "item 1 has no reference"),
    ],
)
def test_wrong_input_is_one_clear_line(references: list[list[str]], seen: list[bool], message: str) -> None:
    with pytest.raises(UserError, match=message):
        score(["a"], references, seen)


def random_pairs(count: int) -> list[tuple[list[str], list[str]]]:
    """Pairs of token lists: unrelated ones, and references with up to three runs moved and a word changed.

    Drawn with ``Random.random`` alone, whose sequence Python guarantees.
    """
    generator = random.Random(2309)

    def below(limit: int) -> int:
        return int(generator.random() * limit)

    pairs = []
    for number in range(count):
        vocabulary = (2, 3, 5, 10, 30)[below(5)]
        reference = [f"w{below(vocabulary)}" for _ in range(1 + below(20))]
        if number % 2:
            hypothesis = list(reference)
            for _ in range(1 + below(3)):
                start = below(len(hypothesis))
                end = start + 1 + below(len(hypothesis) - start)
                run = hypothesis[start:end]
                del hypothesis[start:end]
                place = below(len(hypothesis) + 1)
                hypothesis[place:place] = run
            hypothesis[below(len(hypothesis))] = "x"
        else:
            hypothesis = [f"w{below(vocabulary)}" for _ in range(below(21))]
        pairs.append((hypothesis, reference))
    return pairs


PYTER_FIRST = [14, 3, 11, 2, 7, 2, 13, 2, 13, 1, 17, 4, 4, 2, 4, 5, 6, 3, 9, 2]
PYTER_SUM = 1227
