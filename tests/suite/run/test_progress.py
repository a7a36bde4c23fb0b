"""A long run without a terminal says how far it is: a plain line a minute, from training to scoring."""

import re
import sys
import time
from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from delta_lora.suite.run import progress
from delta_lora.suite.run.progress import Progress, duration, said_each_minute
from delta_lora.suite.run.recipe import run_cell

Short = Callable[..., DictConfig]


def test_a_line_a_minute_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = iter([0.0, *(float(second) for second in range(1, 200))])
    work = Progress("e2e / gpt2 / lora, seed 1", total=600, clock=lambda: next(seconds))
    for done in range(1, 200):
        work.inputs("decoding", done)
    assert capsys.readouterr().out.splitlines() == [
        "e2e / gpt2 / lora, seed 1: decoding, 60 of 600 inputs, 1 inputs/s, 9 min left",
        "e2e / gpt2 / lora, seed 1: decoding, 120 of 600 inputs, 1 inputs/s, 8 min left",
        "e2e / gpt2 / lora, seed 1: decoding, 180 of 600 inputs, 1 inputs/s, 7 min left",
    ]


def test_what_was_done_before_an_interruption_makes_nothing_look_faster(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = iter([0.0, 100.0])
    Progress("run", total=1200, done=1000, clock=lambda: next(seconds)).inputs("decoding", 1100)
    assert capsys.readouterr().out == "run: decoding, 1,100 of 1,200 inputs, 1 inputs/s, 2 min left\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (59.6, "1 min"), (3599, "1 h 0 min"), (4920, "1 h 22 min")]
)
def test_times_are_told_as_people_do(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_what_cannot_tell_how_far_it_is_says_for_how_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.02)
    with said_each_minute("run", "scoring"):
        time.sleep(0.2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 1 and set(lines) == {"run: scoring, for 0 s so far"}


def test_training_and_decoding_say_how_far_they_are(
    short: Short, quick_scores: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    run_cell(short("method=lora", "task.decode.batch_size=2"))
    lines = capsys.readouterr().out
    name = "e2e / gpt2-tiny / lora, seed 1"
    assert re.search(rf"^{name}: step 1 of 24, [\d.e+]+ examples/s, \d+ (s|min) left$", lines, re.MULTILINE)
    assert re.search(
        rf"^{name}: step 9 of 24, loss [\d.]+, [\d.e+]+ examples/s, \d+ (s|min) left$", lines, re.MULTILINE
    )
    assert re.search(rf"^{name}: decoding, 2 of \d inputs, [\d.]+ inputs/s, \d+ s left$", lines, re.MULTILINE)


def test_a_classifier_says_how_far_each_evaluation_is(
    short_glue: Short, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    run_cell(short_glue("rte", "lora", "task.evaluation_batch_size=2", "task.train.max_steps=2"))
    assert re.search(r"lora, seed 1: evaluating, 2 of \d+ inputs, .* left$", capsys.readouterr().out, re.MULTILINE)


def test_with_a_terminal_there_are_bars_and_no_lines(
    short: Short, quick_scores: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    run_cell(short("method=lora"))
    printed = capsys.readouterr()
    assert not [line for line in printed.out.splitlines() if re.search(r"step \d|decoding,|left$", line)]
    assert "24/24" in printed.err and "decoding" in printed.err
