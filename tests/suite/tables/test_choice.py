"""Learning rates are chosen on development data, by the same number of runs for each method."""

from collections import Counter
from pathlib import Path

import pytest
from helpers.table_records import grid_of, write_run

from delta_lora.errors import UserError
from delta_lora.suite.cli import per_table
from delta_lora.suite.config.grid import Grid
from delta_lora.suite.pages.view import table_view
from delta_lora.suite.tables.build import build_table
from delta_lora.suite.tables.choice import choices, preset_lines
from delta_lora.suite.tables.spec import table_spec

BEST = {"full": 3e-4, "lora": 1e-2}


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    return grid_of(tmp_path_factory.mktemp("results"), "table=tuning", "scale=laptop")


def test_every_method_has_as_many_rates_and_test_data_are_not_looked_at(grid: Grid, tmp_path: Path) -> None:
    glue = grid_of(tmp_path, "table=tuning-glue", "scale=laptop")
    for cells, tasks in ((grid.cells, 1), (glue.cells, 2)):
        assert {cell.config.task.split for cell in cells} == {"dev"}
        assert set(Counter(cell.config.method.name for cell in cells).values()) == {3 * tasks}
        rates: dict[str, set[float]] = {}
        for cell in cells:
            rates.setdefault(cell.config.method.name, set()).add(cell.config.method.learning_rate)
        assert all(max(tried) / min(tried) == pytest.approx(10) for tried in rates.values())
    table1 = grid_of(tmp_path, "table=table1", "scale=laptop")
    assert not {cell.key for cell in grid.cells} & {cell.key for cell in table1.cells}


def test_the_rates_are_the_tables_own_whatever_the_preset_has(grid: Grid, tmp_path: Path) -> None:
    other = grid_of(tmp_path, "table=tuning", "scale=laptop", "task.train.learning_rate=0.5")
    assert [cell.key for cell in other.cells] == [cell.key for cell in grid.cells]


def test_the_lowest_loss_of_each_method_is_chosen(grid: Grid, tmp_path: Path) -> None:
    """One of LoRA's rates diverged and has no record; its best is the highest that was tried."""
    runs = []
    for cell in grid.cells:
        name, rate = cell.config.method.name, cell.config.method.learning_rate
        if name in BEST and (name, rate) != ("lora", 3e-3):
            runs.append(write_run(tmp_path, cell, {"loss": 1.2 + abs(rate - BEST[name])}))
    table = build_table(grid, runs)
    assert [(one.method, one.value, one.ran, one.at_end) for one in choices(table)] == [
        ("full", "3e-4", 3, False),
        ("lora", "0.01", 2, True),
    ]
    assert preset_lines(table) == [
        "  per_method:",
        "    full: {learning_rate: 3e-4}",
        "    lora: {learning_rate: 0.01}",
    ]
    note = "Best learning rate: full 3e-4; lora 0.01 (2 of 3 tried), at the end of what was tried."
    assert note in table_view(table).notes
    fewer = [run for run in runs if run.config["method"]["learning_rate"] != 1e-3]
    found = choices(build_table(grid, fewer))
    assert [(one.ran, one.at_end) for one in found] == [(2, True), (1, False)], "nothing beyond 3e-4; one has no end"


def test_values_are_compared_on_the_seeds_that_all_have(tmp_path: Path) -> None:
    """Its easier second seed would make the worst rate the best."""
    found = grid_of(tmp_path, "table=tuning", "scale=laptop", "method=lora", "seed=1,2")
    losses = {(1, 1e-3): 1.30, (2, 1e-3): 1.10, (1, 3e-3): 1.25, (1, 1e-2): 1.28}
    cells = {(cell.config.seed, cell.config.method.learning_rate): cell for cell in found.cells}
    runs = {which: write_run(tmp_path, cells[which], {"loss": loss}) for which, loss in losses.items()}
    assert [one.value for one in choices(build_table(found, list(runs.values())))] == ["3e-3"]
    assert choices(build_table(found, [runs[2, 1e-3], runs[1, 3e-3]])) == [], "no seed in common"


def test_only_the_last_of_the_rows_is_chosen(grid: Grid) -> None:
    config = grid.config.copy()
    config.table.chooses = "method"
    with pytest.raises(UserError, match=r"table\.chooses is the last of table\.rows, 'learning rate'"):
        table_spec(config, "tuning")


def test_tables_that_choose_are_no_results_but_their_records_are_kept() -> None:
    """`make tables` leaves them out; `make keep` keeps the runs of both."""
    every, chosen = ({words[0] for words in per_table([word, "scale=laptop"])} for word in ("all", "chosen"))
    assert chosen == {f"table=tuning{of}" for of in ("", "-controls", "-delta", "-glue", "-scale")}
    assert "table=table1" in every and not every & chosen


@pytest.mark.parametrize(("name", "cells"), [("tuning-controls", 9), ("tuning-delta", 24), ("tuning-scale", 15)])
def test_the_controls_rate_and_lambda_and_k_are_compared_on_development_data(
    name: str, cells: int, tmp_path: Path
) -> None:
    found = grid_of(tmp_path, f"table={name}", "scale=laptop")
    assert len({cell.key for cell in found.cells}) == cells
    assert {(cell.config.task.split, *cell.config.task.metrics) for cell in found.cells} == {("dev", "loss")}
    table = build_table(found, [write_run(tmp_path, found.cells[1], {"loss": 1.25})])
    assert [row.scores["loss"].mean for row in table.rows if row.scores["loss"]] == [1.25]
    assert preset_lines(table) == []
    texts = [entry.text for line in table_view(table).lines for entry in line]
    assert "1.2500" in texts, "losses differ in their third and fourth decimal"
