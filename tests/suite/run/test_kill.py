"""Kill it anywhere, damage what it left: the same command ends with bitwise the same numbers, or says what is wrong."""

import json
import logging
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.kills import Killer, outcome
from helpers.runs import METHODS, Died, elsewhere, interrupted
from omegaconf import DictConfig

from delta_lora.suite.records.records import read_run
from delta_lora.suite.run import recipe as suite_cell
from delta_lora.suite.run import scoring
from delta_lora.suite.run.recipe import run_cell

KILLS = int(os.environ.get("KILLS", "20"))  # per method; make chaos: more, from another seed
SEED = int(os.environ.get("SEED", "0"))
SHORTER = ["task.max_train_examples=48", "task.train.save_steps=3", "task.per_method.delta_lora.start_steps=2"]
DAMAGES = 5  # of each kind

Short = Callable[..., DictConfig]


@pytest.mark.chaos
@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_is_killed_at_any_moment_ends_as_the_undisturbed_one(
    short: Short, tmp_path: Path, method: str
) -> None:
    survive(Killer(short(f"method={method}", *SHORTER), tmp_path, seed=SEED + METHODS.index(method)))


@pytest.mark.chaos
@pytest.mark.parametrize("method", ["full", "delta-lora"])
def test_a_killed_run_finds_the_best_epoch_of_the_undisturbed_one(
    short_glue: Short, tmp_path: Path, method: str
) -> None:
    """Classification scores after every epoch, in the middle of training."""
    survive(Killer(short_glue("rte", method, "task.train.epochs=3", *SHORTER[:2]), tmp_path, seed=SEED))


def survive(killer: Killer) -> None:
    expected = outcome(killer.whole)
    for run in killer.until(KILLS):
        assert outcome(run) == expected
    assert killer.kills == KILLS


def damage(path: Path, chance: random.Random) -> None:
    """Flip one bit of a file, or cut it off."""
    content = bytearray(path.read_bytes())
    place = chance.randrange(len(content))
    if chance.random() < 0.7:
        content[place] ^= 1 << chance.randrange(8)
    else:
        del content[place:]
    path.write_bytes(content)


def files_of(folder: Path) -> list[Path]:
    """What a run has left that has any content; ``config.yaml`` is for people and never read."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "config.yaml"]
    return [path for path in files if path.stat().st_size and not path.name.startswith(".damaged")]


@pytest.fixture
def cells(short: Short, short_glue: Short, quick_scores: None) -> dict[str, DictConfig]:
    """A run that decodes, and one that scores every epoch."""
    glue = short_glue("rte", "delta-lora", "task.train.epochs=3", "task.save_start=true", *SHORTER[:2])
    return {"e2e": short("method=delta-lora", *SHORTER), "glue": glue}


@pytest.mark.parametrize(
    ("task", "phase"),
    [("e2e", phase) for phase in ("training", "decode_items", "write_record")]
    + [pytest.param("glue", phase, marks=pytest.mark.chaos) for phase in ("training", "write_record")],
)
def test_a_damaged_file_of_an_unfinished_run_is_never_used(
    cells: dict[str, DictConfig],
    task: str,
    phase: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole, cut = elsewhere(cells[task], tmp_path / "whole"), elsewhere(cells[task], tmp_path / "cut")
    expected = outcome(run_cell(whole))
    if phase == "training":
        interrupted(cut, 8 if task == "e2e" else 16, monkeypatch)
    else:
        with monkeypatch.context() as patch:
            patch.setattr(scoring if phase == "write_record" else suite_cell, phase, die)
            with pytest.raises(Died):
                run_cell(cut)
    for number in range(DAMAGES):
        chance = random.Random(f"{SEED} {task} {phase} {number}")
        shutil.copytree(tmp_path / "cut", tmp_path / str(number))
        (folder,) = (tmp_path / str(number) / "runs").glob("[!.]*/")
        hit = chance.choice(files_of(folder))
        damage(hit, chance)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            run = run_cell(elsewhere(cells[task], tmp_path / str(number)))
        assert outcome(run) == expected, hit
        if phase == "write_record" and "checkpoints" not in hit.parts:
            assert "damaged" in caplog.text, f"{hit} was damaged, and nothing was said"


def die(*_: Any, **__: Any) -> Any:
    raise Died


@pytest.mark.parametrize("task", ["e2e", pytest.param("glue", marks=pytest.mark.chaos)])
def test_a_damaged_record_is_set_aside_and_made_again(
    cells: dict[str, DictConfig], task: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = cells[task]
    run = run_cell(config)
    expected, chance = outcome(run), random.Random(f"{SEED} {task}")
    for number in range(1, DAMAGES):
        hit = run.path / "run.json" if number < 3 else chance.choice(files_of(run.path))
        damage(hit, chance)
        caplog.clear()
        assert read_run(run.path) is None and "left out" in caplog.text, f"{hit} was damaged, and it was used"
        run = run_cell(config)
        assert outcome(run) == expected, hit
        assert len(list(run.path.glob(".damaged-*-run.json"))) == number


def test_a_number_changed_in_a_record_is_noticed(
    cells: dict[str, DictConfig], caplog: pytest.LogCaptureFixture
) -> None:
    run = run_cell(cells["e2e"])
    record = json.loads((run.path / "run.json").read_text())
    record["metrics"]["BLEU"] += 1
    (run.path / "run.json").write_text(json.dumps(record))
    assert read_run(run.path) is None and "not what its SHA-256 says" in caplog.text
