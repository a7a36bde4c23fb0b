"""Finished runs made up for the tests of tables: real records, written as a run writes them."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from delta_lora.places import place
from delta_lora.suite.config import grid as grids
from delta_lora.suite.config.grid import Grid, GridCell, compose_grid
from delta_lora.suite.records.records import Run, run_folder, write_jsonl, write_record

COUNTS = {"trainable": 393216, "extra_updatable": 0, "head": 0}
ENVIRONMENT = {
    "device": "CPU, 1 threads",
    "versions": {"torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.0", "numpy": "2.0"},
    "git_commit": "0123abc",
}


compose_cell = grids.compose_cell
BASES: grids.Bases = {}


@cache
def cell_of(overrides: tuple[str, ...]) -> GridCell:
    return compose_cell(overrides, BASES if any(text.startswith("seed=") for text in overrides) else {})


@lru_cache(maxsize=300)  # a test asks for the same cells again and again; all of theirs at once would fill the memory
def cell_in(overrides: tuple[str, ...]) -> GridCell:
    folders = dict(text.split("=", 1) for text in overrides if text.startswith(("results_dir=", "cache_dir=")))
    cell = deepcopy(cell_of(tuple(text for text in overrides if text.partition("=")[0] not in folders)))
    cell.config.update({name: str(place(name, given)) for name, given in folders.items()})
    return cell


def cell_elsewhere(overrides: Sequence[str], bases: object) -> GridCell:
    """A sweep's cell, composed once for all tests whose results are in other folders: neither is part of its key.

    For tests without data of their own, which change no configuration: the key holds the data's digest.
    """
    return cell_in(tuple(overrides))


def grid_of(results: Path, *overrides: str) -> Grid:
    """A table's cells with their runs below ``results``."""
    return compose_grid([*overrides, f"results_dir={results}", f"cache_dir={results / 'cache'}"])


def write_run(
    results: Path,
    cell: GridCell,
    metrics: dict[str, Any],
    predictions: Sequence[dict[str, Any]] = (),
    **changes: Any,
) -> Run:
    """A finished run of a cell with these metrics."""
    folder = run_folder(results, cell.key)
    write_jsonl(folder / "predictions.jsonl", predictions)
    record = {
        "key": cell.key,
        "config": OmegaConf.to_container(cell.config),
        "metrics": metrics,
        "counts": COUNTS,
        "train": {"steps": 10, "seconds": 50.0, "wall_seconds": 60.0},
        "environment": ENVIRONMENT,
    }
    return write_record(folder, record | changes)


def write_runs(results: Path, grid: Grid, metrics: Callable[[GridCell], dict[str, Any]], **changes: Any) -> list[Run]:
    """A finished run for every cell of a grid."""
    return [write_run(results, cell, metrics(cell), **changes) for cell in grid.cells]
