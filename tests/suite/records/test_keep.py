"""Records that are kept beside a scale's tables: small, without weights, found like those that were made here."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import ROOT, script
from helpers.table_records import grid_of, write_run
from omegaconf import DictConfig

from delta_lora.suite.config.cell import build_cell
from delta_lora.suite.config.grid import GridCell
from delta_lora.suite.pages.render import find_table
from delta_lora.suite.plan.plan import plan_cell
from delta_lora.suite.plan.speeds import Speeds
from delta_lora.suite.records.keep import keep_run
from delta_lora.suite.records.records import Run, find_run, kept_folder, kept_runs, made_runs, read_run, read_runs
from delta_lora.suite.run import recipe
from delta_lora.suite.run.recipe import run_cell
from delta_lora.suite.tables.compare import resampler_of

MOST = 20_000_000  # bytes of all records in the repository
TEXT = {"input": "a pub", "references": ["It is a pub.", "A pub\u2028it is."]}
LINES = [{"id": 7 * i, "prediction": f"a pub £{i}", **TEXT} for i in range(40)]


def made(results: Path, cell: GridCell) -> Run:
    run = write_run(results, cell, dict.fromkeys(cell.config.task.metrics, 50.0), LINES)
    (run.path / "similarity.json").write_text('{"h.0.q_proj": {"cosine": 1.0}}')
    (run.path / "adapter").mkdir(exist_ok=True)
    (run.path / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    return run


def test_a_kept_run_is_the_same_without_what_is_large_or_of_a_machine(tmp_path: Path) -> None:
    cell = grid_of(tmp_path / "results", "table=table1", "scale=laptop", "data_dir=/mnt/somebody/data").cells[0]
    run = made(tmp_path / "results", cell)
    folder = keep_run(run, tmp_path / "results")
    assert folder == kept_folder(tmp_path / "results", "laptop", run.key)
    names = {path.name for path in folder.iterdir()}
    assert names == {"run.json", "predictions.jsonl.gz", "similarity.json.gz"}
    assert (
        "somebody" not in (folder / "run.json").read_text() and str(tmp_path) not in (folder / "run.json").read_text()
    )
    kept = read_run(folder)
    assert kept is not None and kept.predictions() == LINES and kept.text("similarity.json")[0] == "{"
    assert (kept.key, kept.metrics, kept.train, kept.counts) == (run.key, run.metrics, run.train, run.counts)
    assert keep_run(run, tmp_path / "results") is None, "once"
    (folder / "predictions.jsonl.gz").write_bytes(b"damaged")
    assert keep_run(run, tmp_path / "results") == folder and read_run(folder) == kept


def test_classified_texts_are_not_kept_and_the_scores_are_the_same(tmp_path: Path) -> None:
    cell = grid_of(tmp_path, "table=table4", "scale=laptop", "task=glue/rte").cells[0]
    lines = [
        {"id": i, "input": "a\tb", "prediction": str(i % 2), "references": [str(i // 2 % 2)], "split": "validation"}
        | {"sentences": ["a", "b"], "by_epoch": ["0", str(i % 2)]}
        for i in range(40)
    ]
    run = write_run(tmp_path, cell, {"accuracy": 50.0}, lines)
    keep_run(run, tmp_path)
    (kept,) = kept_runs(tmp_path, "laptop")
    assert "sentences" not in kept.text("predictions.jsonl")
    assert resampler_of(kept).score() == resampler_of(run).score()


def test_tables_and_plans_find_it(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "table=table1", "scale=laptop")
    run = made(tmp_path, grid.cells[0])
    keep_run(run, tmp_path)
    assert len(read_runs(tmp_path)) == 1, "each once"
    shutil.rmtree(tmp_path / "runs")
    assert find_run(tmp_path, run.key) == read_runs(tmp_path)[0] and not made_runs(tmp_path)
    assert [found.key for found in find_table(grid_of(tmp_path, "table=table1", "scale=laptop")).runs] == [run.key]
    speeds = Speeds(tmp_path, tmp_path)
    assert speeds.runs == 0, "its speed is another machine's"
    assert plan_cell(build_cell(grid.cells[0].config, to_run=False), "full", None, speeds).state == "done"


def test_a_kept_run_is_not_trained_again(
    short: Callable[..., DictConfig], quick_scores: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = short("method=lora")
    run = run_cell(config)
    folder = keep_run(run, Path(config.results_dir))
    texts = run.predictions()
    shutil.rmtree(run.path)
    monkeypatch.setattr(recipe, "execute", None)
    again = run_cell(config)
    assert again.path == folder and (again.metrics, again.predictions()) == (run.metrics, texts)


def test_those_in_the_repository_are_small_and_without_weights() -> None:
    files = [path for path in ROOT.glob("results/*/runs/*/**/*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST
    allowed = {"run.json", "predictions.jsonl.gz", "similarity.json.gz", "log.jsonl.gz"}
    assert not [path for path in files if path.name not in allowed or path.parent.parent.name != "runs"]


def test_the_command_says_which_runs_no_table_with_these_seeds_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = grid_of(tmp_path, "table=table3", "scale=tiny", "method=lora", "seed=1,2").cells
    made(tmp_path, first)
    made(tmp_path, second)
    keep = script("keep")
    monkeypatch.setattr(keep, "per_table", lambda words: [["table=table3", *words[2:]]])  # of one table, not of all
    keep.main(["scale=tiny", f"results_dir={tmp_path}", "seed=1"])
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("1 new of 1 finished runs kept in ")
    assert said[1] == "1 other finished runs of scale tiny are in no table of it with these seeds and overrides"
    keep.main(["scale=tiny", f"results_dir={tmp_path}", "seed=1,2"])
    assert capsys.readouterr().out.startswith("1 new of 2 finished runs kept in ")
    assert len(kept_runs(tmp_path, "tiny")) == 2
