"""A finished run answers through stock Transformers and stock PEFT with the texts that it recorded."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from helpers import ROOT, script
from helpers.table_records import write_run
from omegaconf import DictConfig

from delta_lora.suite.cli import guard
from delta_lora.suite.config.cell import build_cell
from delta_lora.suite.config.grid import GridCell
from delta_lora.suite.records.records import Run
from delta_lora.suite.run.recipe import run_cell


def generate(run: Run, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/generate.py", *arguments, "--results-dir", str(run.path.parents[1])]
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_MODE"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("quick_scores")
def test_the_exported_adapter_gives_the_recorded_texts(short: Callable[..., DictConfig]) -> None:
    run = run_cell(short("method=delta-lora"))
    recorded = run.predictions()
    answered = generate(run, run.key[:8], *[line["input"] for line in recorded])
    assert answered.returncode == 0, answered.stderr
    assert answered.stdout.removesuffix("\n").split("\n") == [line["prediction"] for line in recorded]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("full", "has no adapter/: committed records have no weights, and full may be"),
        ("ffffffffffff", "no finished run begins with it"),
    ],
)
def test_a_run_that_cannot_answer_says_why(
    short: Callable[..., DictConfig], capsys: pytest.CaptureFixture[str], name: str, reason: str
) -> None:
    cell = build_cell(short("method=full"))
    run = write_run(cell.results_dir, GridCell(cell.config, cell.key), {"BLEU": 1.0})
    given = str(run.path) if name == "full" else name
    assert guard(lambda: script("generate").main(given, ["name : The Vaults"], cell.results_dir)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and reason in line
