"""Records made on other copies of the data: what a copy's files hold is part of a key."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from delta_lora.errors import UserError
from delta_lora.suite.config.grid import Grid, GridCell
from delta_lora.suite.config.key import run_key
from delta_lora.suite.config.settings import make_task
from delta_lora.suite.records.records import Run
from delta_lora.tasks.base import PINNED


def of_any_copy(grid: Grid, runs: Sequence[Run]) -> Grid:
    """A grid whose tasks without any run on the data here take those of the same settings on one other copy.

    Not where two copies have such runs, so that no row mixes them, and not at a scale whose numbers are held against
    the paper's. Pages are of the records, whatever data are here, and say so
    (`delta_lora.suite.pages.provenance.facts`); only training asks for the copy at hand.
    """
    if grid.config.scale.comparable:
        return grid
    known = {run.key for run in runs}
    tasks = {cell.config.task.name for cell in grid.cells}
    tasks -= {cell.config.task.name for cell in grid.cells if cell.key in known}
    copies: dict[str, dict[str, str]] = {}  # key on the released data → digest → the run's key
    for run in runs:
        digest = copy_of(run) if run.config["task"]["name"] in tasks else None
        if digest and (found := released_key(run, digest)):
            copies.setdefault(found, {})[digest] = run.key
    if not copies:
        return grid
    away = {cell.key: copies.get(key_on_released(cell), {}) for cell in grid.cells if cell.config.task.name in tasks}
    digests: dict[str, set[str]] = {}  # by task, of the runs that fit
    for cell in grid.cells:
        digests.setdefault(cell.config.task.name, set()).update(away.get(cell.key, {}))

    def placed(cell: GridCell) -> GridCell:
        fitting = away.get(cell.key, {}) if len(digests[cell.config.task.name]) == 1 else {}
        return replace(cell, key=next(iter(fitting.values()), cell.key))

    return replace(grid, cells=tuple(placed(cell) for cell in grid.cells))


def key_on_released(cell: GridCell) -> str:
    """The key of a cell's settings on the released data."""
    config = without_data_dir(cell.config)
    return run_key(config, make_task(config), PINNED)


def copy_of(run: Run) -> str | None:
    """The digest of the files that a run was made on, where they are not the released ones."""
    said, _, digest = str(run.environment.get("data_revision")).partition(", ")
    return digest if said == "local" and digest != PINNED else None


def released_key(run: Run, digest: str) -> str | None:
    """The key that a run has on the released data; None where its key is not that of its settings and files now."""
    with suppress(UserError, OmegaConfBaseException):  # settings of another version
        config = without_data_dir(run.config)
        task = make_task(config)
        return run_key(config, task, PINNED) if run_key(config, task, digest) == run.key else None
    return None


def without_data_dir(config: Mapping[Any, Any]) -> DictConfig:
    """A copy of a configuration that has no data at hand."""
    return DictConfig({**config, "data_dir": None})
