"""What a page says of its numbers: the seeds of its gains, what diverged, and what it was asked for."""

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.table_records import grid_of, write_run

from delta_lora.suite.pages import figure_page
from delta_lora.suite.pages.epochs import epoch_texts
from delta_lora.suite.pages.provenance import asked_on, diverged_runs
from delta_lora.suite.pages.view import table_view
from delta_lora.suite.records.records import run_folder, write_jsonl
from delta_lora.suite.tables.build import build_table
from delta_lora.suite.tables.csv_file import read_table, to_csv
from delta_lora.suite.tables.figure3 import build_figure3

E2E = ["BLEU", "NIST", "METEOR", "ROUGE-L", "CIDEr"]
LOSSES = [2.0, 5.5, 5.0, 4.56]

pytestmark = [pytest.mark.usefixtures("cells_once"), pytest.mark.xdist_group("tables")]  # composed once


def test_gains_over_other_seeds_than_the_scores_say_so(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "table=table5", "scale=tiny", "seed=1,2")
    runs = [write_run(tmp_path, cell, dict.fromkeys(E2E, 50.0 + cell.config.seed)) for cell in grid.cells]
    fewer = [run for run in runs if run.config["method"]["name"] == "lora" or run.config["seed"] == 1]
    notes = {len(found): "\n".join(table_view(build_table(grid, found)).notes) for found in (runs, fewer)}
    assert "the gain over LoRA (repr.), ours / the paper's; positive is better." in notes[len(runs)]
    said = "the gain over LoRA (repr.), ours / the paper's, over the seeds that both rows have; positive is better."
    assert said in notes[len(fewer)]


def test_means_over_fewer_seeds_have_their_count_also_by_epoch(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "table=controls-glue", "scale=tiny", "task=glue/mrpc", "seed=1,2")
    scores = {"accuracy": 80.0, "accuracy-last": 79.0, "accuracy-cross-fitted": 79.5}
    runs = [write_run(tmp_path, cell, scores) for cell in grid.cells]
    texts = epoch_texts(build_table(grid, runs[1:]))
    assert texts is not None
    assert [line[1] for line in texts.lines] == ["80.00 / 79.00 / 79.50 (1 of 2)", *["80.00 / 79.00 / 79.50"] * 2]


def test_a_diverged_row_of_another_table_is_named_where_gains_are_over_it(tmp_path: Path) -> None:
    base = next(c for c in grid_of(tmp_path, "table=table5", "scale=tiny").cells if c.config.method.name == "lora")
    lines = [{"step": step, "loss": loss} for step, loss in enumerate(LOSSES)]
    write_jsonl(run_folder(tmp_path, base.key) / "log.jsonl", lines)
    runs = [write_run(tmp_path, base, dict.fromkeys(E2E, 5.0))]
    (line,) = diverged_runs(build_table(grid_of(tmp_path, "table=table7", "scale=tiny"), runs))
    assert line.startswith("Diverged: table5: lora, seed 1: the loss of its training was 2 at step 0 and ")


def test_a_diverged_run_of_the_figure_is_named(tmp_path: Path) -> None:
    figure = build_figure3(grid_of(tmp_path, "table=figure3", "scale=tiny"), [])
    lines = [{"step": 50 + step, "loss": loss} for step, loss in enumerate(LOSSES)]
    write_jsonl(run_folder(tmp_path, figure.grid.cells[0].key) / "log.jsonl", lines)
    figure = replace(figure, runs=[write_run(tmp_path, cell, {}) for cell in figure.grid.cells])
    (line,) = figure_page.diverged_of(figure)
    assert line.startswith(
        "Diverged: Fine-Tuning (W_q and W_v), seed 1: the loss of its training was 2 at step 50 and "
    )


def test_a_loss_keeps_its_four_digits_without_its_runs(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "table=tuning", "scale=laptop", "method=lora")
    runs = [write_run(tmp_path, cell, {"loss": 1.2 + cell.config.method.learning_rate / 10}) for cell in grid.cells]
    table = build_table(grid, runs)
    again = read_table(to_csv(table), grid)
    assert [line[-1].text for line in table_view(again).lines] == ["1.2001", "1.2003", "1.2010"]
    assert [[entry.best for entry in line] for line in table_view(again).lines] == [
        [entry.best for entry in line] for line in table_view(table).lines
    ]


def test_a_page_says_what_it_was_asked_for() -> None:
    page = r"**From** Scale: tiny · Runs: 1 of 2 · Seeds: 1, 2 · Overrides: method=lora task.per\_x=1 · Device: CPU"
    assert asked_on(page) == ["seed=1,2", "method=lora", "task.per_x=1"]
    assert asked_on("nothing") == []
