"""Runs that are trained and decoded on one machine and scored on another (score=later)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import elsewhere
from omegaconf import DictConfig

from delta_lora.errors import UserError
from delta_lora.metrics import java
from delta_lora.suite.config.cell import build_cell
from delta_lora.suite.config.compose import resolved
from delta_lora.suite.records.records import read_jsonl, run_folder, write_jsonl
from delta_lora.suite.run import recipe, scoring
from delta_lora.suite.run.recipe import run_cell
from delta_lora.suite.run.scoring import score_waiting
from delta_lora.tasks.e2e import E2E


def no_java() -> Path:
    raise UserError("there is no Java")


def unknown_setting(config: DictConfig, **kwargs: Any) -> None:
    raise UserError("there is no setting task.new")


def made_on(device: str, config: DictConfig, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Predict on a machine of this device without Java; the run's folder."""
    with monkeypatch.context() as patch:
        patch.setattr(java, "java_executable", no_java)
        patch.setattr(recipe, "environment", lambda: {"device": device, "versions": {}, "git_commit": "c0ffee"})
        assert run_cell(config) is None
    return run_folder(Path(config.results_dir), build_cell(config).key)


def test_a_run_is_scored_elsewhere_as_it_would_have_been_at_once(
    short: Callable[..., DictConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    quick_scores: None,
) -> None:
    prepared: list[str] = []
    monkeypatch.setattr(E2E, "prepare_scoring", lambda task: prepared.append(task.settings.name))
    config = short("method=delta-lora", "score=later")
    folder = made_on("a GPU", config, monkeypatch)
    assert not prepared, "another machine scores"
    assert "to be scored (make scores)" in capsys.readouterr().out
    assert not (folder / "run.json").exists() and not (folder / "checkpoints").exists()
    moved = elsewhere(config, tmp_path / "moved")
    there = run_folder(Path(moved.results_dir), folder.name)
    there.parent.mkdir(parents=True)
    folder.rename(there)

    (run,), problems = score_waiting(resolved(moved))
    assert not problems and run.config["score"] == "now" and run.config["results_dir"] == moved.results_dir
    assert (run.environment["device"], run.environment["git_commit"]) == ("a GPU", "c0ffee")
    assert run.environment["data_revision"].startswith("generated")
    moved.score = "now"
    assert run_cell(moved).metrics == run.metrics, "found like any other"
    at_once = run_cell(elsewhere(moved, tmp_path / "at once"))
    assert prepared == ["e2e"], "what scoring needs is made beside what a run does first"
    assert (at_once.metrics, at_once.predictions()) == (run.metrics, run.predictions())
    assert at_once.key == run.key and run.train["wall_seconds"] > run.train["decode_seconds"] > 0
    assert score_waiting(resolved(moved)) == ([], [])


def test_the_same_command_without_it_scores_too(
    short: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch, quick_scores: None
) -> None:
    config = short("method=lora", "score=later")
    made_on("a GPU", config, monkeypatch)
    assert run_cell(config) is None, "asked again, it waits still"
    config.score = "now"
    monkeypatch.setattr(recipe, "train_and_predict", None)
    assert run_cell(config).environment["device"] == "a GPU"


def test_classification_waits_as_well(short_glue: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    config = short_glue("rte", "lora", "score=later")
    made_on("a GPU", config, monkeypatch)
    (run,), _ = score_waiting(resolved(config))
    assert run.train["best_epoch"] in (1, 2) and 0 <= run.metrics["accuracy"] <= 100


def test_what_belongs_to_another_run_or_is_damaged_is_not_scored(
    short: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch, quick_scores: None
) -> None:
    config = short("method=lora", "score=later")
    folder = made_on("a GPU", config, monkeypatch)
    aside = folder.rename(folder.with_name("0123456789abcdef"))
    runs, problems = score_waiting(resolved(config))
    assert not runs and folder.name in problems[0] and "is not scored" in problems[0]
    aside.rename(folder)
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "build_cell", unknown_setting)
        runs, problems = score_waiting(resolved(config))
    assert not runs and problems == [f"{folder} is not scored: there is no setting task.new"]
    lines = read_jsonl(folder / "predictions.jsonl")
    write_jsonl(folder / "predictions.jsonl", [lines[0] | {"prediction": "better"}, *lines[1:]])
    assert score_waiting(resolved(config)) == ([], [])
