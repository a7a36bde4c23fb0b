"""Records of another copy of the data stand in a table as a whole, or not at all."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from helpers.table_records import ENVIRONMENT, grid_of, write_run

from delta_lora.suite.config.grid import GridCell
from delta_lora.suite.config.settings import make_task
from delta_lora.suite.records.records import Run
from delta_lora.suite.tables.build import build_table
from delta_lora.suite.tables.copies import copy_of, of_any_copy

ASKED = ["table=controls-glue", "method=controls/lora", "seed=1,2"]
pytestmark = [pytest.mark.usefixtures("cells_once"), pytest.mark.xdist_group("tables")]  # composed once


def copy_in(folder: Path, text: str) -> str:
    """A folder of other GLUE files: two rows with this text."""
    for task, sentences in (("mrpc", ["sentence1", "sentence2"]), ("sst2", ["sentence"])):
        (place := folder / "glue" / task).mkdir(parents=True)
        rows = pd.DataFrame({name: [text, "b"] for name in sentences} | {"label": [0, 1]})
        for split in ("train", "validation"):
            rows.to_parquet(place / f"{split}-00000-of-00001.parquet")
    return f"data_dir={folder}"


def run_of(results: Path, cell: GridCell) -> Run:
    revision = make_task(cell.config).revision() if cell.config.data_dir else "0" * 40
    environment = ENVIRONMENT | {"data_revision": revision}
    return write_run(results, cell, {"accuracy": 50.0}, environment=environment)


def shown(results: Path, scale: str, runs: list[Run]) -> dict[str, list[int]]:
    """Column → the seeds that the table has, where the data are not at hand."""
    (row,) = build_table(grid_of(results, *ASKED, f"scale={scale}"), runs).rows
    return {column: list(by_seed) for column, by_seed in row.runs.items()}


def test_a_task_is_of_one_copy_and_of_the_data_at_hand_where_these_have_a_run(tmp_path: Path) -> None:
    one, other = (copy_in(tmp_path / name, name) for name in ("one", "other"))
    of_one, of_other = (grid_of(tmp_path, *ASKED, "scale=laptop", copy).cells for copy in (one, other))
    here = grid_of(tmp_path, *ASKED, "scale=laptop").cells
    made = [run_of(tmp_path, cell) for cell in of_one]
    assert len({copy_of(run) for run in made} - {None}) == 2, "a digest for each task"
    dev = grid_of(tmp_path, *ASKED, "scale=laptop", "task.split=dev", one).cells
    made += [run_of(tmp_path, cell) for cell in dev]  # on a part of the same files, which is another digest
    assert shown(tmp_path, "laptop", made) == {"SST-2": [1, 2], "MRPC": [1, 2]}
    sst2 = next(cell for cell in here if (cell.config.task.name, cell.config.seed) == ("glue/sst2", 2))
    assert shown(tmp_path, "laptop", [*made, run_of(tmp_path, sst2)]) == {"SST-2": [2], "MRPC": [1, 2]}
    second = [run_of(tmp_path, cell) for cell in of_other if cell.config.task.name == "glue/mrpc"]
    assert shown(tmp_path, "laptop", [*made, *second]) == {"SST-2": [1, 2], "MRPC": []}, "which copy nobody can say"


def test_where_numbers_are_held_against_the_papers_a_run_is_on_the_data_at_hand(tmp_path: Path) -> None:
    copy = copy_in(tmp_path / "one", "one")
    for scale, seeds in (("laptop", [1, 2]), ("paper", [])):
        made = [run_of(tmp_path, cell) for cell in grid_of(tmp_path, *ASKED, f"scale={scale}", copy).cells]
        assert shown(tmp_path, scale, made)["MRPC"] == seeds


def test_records_of_other_settings_are_not_taken(tmp_path: Path) -> None:
    """Their key is not that of what they say they are: another version's, or changed since."""
    copy = copy_in(tmp_path / "one", "one")
    made = [run_of(tmp_path, cell) for cell in grid_of(tmp_path, *ASKED, "scale=laptop", copy).cells]
    changed = [replace(run, config={**run.config, "seed": run.config["seed"] + 10}) for run in made]
    grid = grid_of(tmp_path, *ASKED, "scale=laptop")
    assert of_any_copy(grid, changed) == grid
    assert of_any_copy(grid, [replace(run, config={**run.config, "model": {}}) for run in made]) == grid
