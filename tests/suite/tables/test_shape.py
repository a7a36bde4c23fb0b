"""Rank correlations with the paper's column: of how many rows, and what chance alone reaches."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from helpers.table_records import grid_of, write_run

from delta_lora.suite.pages.view import table_view
from delta_lora.suite.tables.build import build_table
from delta_lora.suite.tables.shape import critical, shapes

E2E = ["BLEU", "NIST", "METEOR", "ROUGE-L", "CIDEr"]


@pytest.mark.parametrize("rows", [5, 6, 7])
def test_the_critical_value_is_what_all_orders_reach_in_at_most_one_of_twenty(rows: int) -> None:
    ranks = np.arange(rows)
    found = [abs(np.corrcoef(ranks, order)[0, 1]) for order in permutations(ranks)]
    value = critical(rows)
    assert value is not None
    assert (
        np.mean(np.array(found) >= value - 1e-9)
        <= 0.05
        < np.mean(np.array(found) >= value - 12 / (rows**3 - rows) - 1e-9)
    )


def test_they_are_those_of_the_tables() -> None:
    """Zar, Biostatistical Analysis, table B.20, two-sided 0.05."""
    printed = {5: 1.0, 6: 0.886, 7: 0.786, 8: 0.738, 9: 0.700, 10: 0.648, 11: 0.618}
    assert {rows: round(critical(rows) or 0, 3) for rows in printed} == printed


def test_four_rows_have_none() -> None:
    assert critical(4) is None, "even the paper's own order comes up in one of 24 cases, either way in two"


@pytest.mark.parametrize("seeds_of_the_last", [(1, 2), (1,), (3,)])
def test_no_row_is_the_best_where_rows_have_different_seeds(seeds_of_the_last: tuple[int, ...], tmp_path: Path) -> None:
    """λ = 5 scores most on the seeds that it has; with seed 1 alone the others score one more than with both."""
    grid = grid_of(tmp_path, "table=table7", "scale=tiny", "seed=1,2,3")
    runs = []
    for cell in grid.cells:
        ratio, seed = int(cell.config.method.update_ratio), cell.config.seed
        if seed in (seeds_of_the_last if ratio == 5 else (1, 2)):
            runs.append(write_run(tmp_path, cell, dict.fromkeys(E2E, 30.0 + ratio + 2 * (seed == 1))))
    table = build_table(grid, runs)
    bleu = next(shape for shape in shapes(table) if shape.column == "BLEU")
    view = table_view(table)
    bold = {entry.text for line in view.lines for entry in line if entry.best}
    note = "None of ours where rows have different seeds."
    assert (bleu.correlation is None) == (seeds_of_the_last == (3,)), "no seed in common"
    assert view.shape is not None
    if len(seeds_of_the_last) == 2:
        assert [row.settings["update_ratio"][0] for row in bleu.ours] == ["5"]
        assert bold == {"36.00 ± 1.41 (2 of 3)"}
        assert not any(note in line for line in view.notes)
    else:
        assert bleu.ours == [] and bold == set()
        assert view.shape.lines[0][1] == "–"
        assert any(note in line for line in view.notes)
