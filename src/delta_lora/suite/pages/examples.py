"""A few test items of each generation task with every method's text, so that a reader sees how methods fail.

The tables that they come from say so: ``examples: true`` in ``configs/table/*.yaml``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from delta_lora.errors import UserError
from delta_lora.files import write_whole
from delta_lora.suite.config.compose import left_out
from delta_lora.suite.config.grid import Grid, GridCell, compose_grid
from delta_lora.suite.pages.fuller import check_outputs
from delta_lora.suite.pages.render import folder_of
from delta_lora.suite.pages.view import setting_head
from delta_lora.suite.records.records import NoRunError, Run, read_runs
from delta_lora.suite.tables.build import plain
from delta_lora.suite.tables.spec import tables_with_examples

ITEMS = 4  # a task, evenly spaced over the test set: chosen by place, not by how the methods do
LONGEST = 700  # characters of a shown input: XSum's are whole articles
REFERENCES = 3  # of each item, the first


def render_examples(
    overrides: Sequence[str], write: bool = True, force: bool = False
) -> tuple[list[dict[str, Any]], list[str], list[Path]]:
    """Write ``examples.json`` from the tables' runs, of the first seed asked for; ``write=False``: only find.

    Args:
        force: replace a file that shows more runs' outputs.

    Returns:
        The tasks' examples, the records that were left out and why, and the file below ``<results_dir>/<scale>``.

    Raises:
        UserError: not one finished run of these tables, or the file shows more runs.
    """
    grids = example_grids(overrides)
    folder = folder_of(grids[0])
    problems: list[str] = []
    found = examples_of(grids, read_runs(folder.parent), problems)
    if not found:
        asked, commands = ", ".join(str(grid.table) for grid in grids), " or ".join(grid.command for grid in grids)
        raise NoRunError(f"no finished run of {asked} in {folder.parent / 'runs'}: {commands}")
    path = folder / "examples.json"
    if write:
        text = to_json(found)
        check_outputs(path, text, force)
        write_whole(path, text)
    return found, problems, [path]


def example_grids(overrides: Sequence[str]) -> list[Grid]:
    """The grids of the tables with examples that the scale has.

    Raises:
        UserError: there are none.
    """
    names = [name for name in tables_with_examples() if name not in left_out(overrides)]
    if not names:
        raise UserError("no table in configs/table has examples: true, so there are none to show")
    return [compose_grid([f"table={name}", *overrides]) for name in names]


def examples_of(grids: Sequence[Grid], runs: Sequence[Run], problems: list[str]) -> list[dict[str, Any]]:
    """The examples of every task that has a finished run. Notes in ``problems`` what it leaves out."""
    by_key = {run.key: run for run in runs}
    parts = [part for grid in grids for part in by_task(grid)]
    return [task for part in parts if (task := task_examples(part, by_key, problems)) is not None]


def to_json(examples: Sequence[Mapping[str, Any]]) -> str:
    """The text of ``examples.json``."""
    return json.dumps(examples, ensure_ascii=False, indent=1) + "\n"


def by_task(grid: Grid) -> list[Grid]:
    """A grid for each of its tasks and models, whose runs answer the same items."""
    parts: dict[tuple[str, str], list[GridCell]] = {}
    for cell in grid.cells:
        parts.setdefault((cell.config.task.name, cell.config.model.name), []).append(cell)
    return [replace(grid, cells=tuple(cells)) for cells in parts.values()]


def row_label(grid: Grid, cell: GridCell) -> str:
    """The method, and what else tells the table's rows apart."""
    rows = {head: path for head, path in grid.config.table.rows.items() if head != "method"}
    settings = [
        f"{setting_head(str(head))} = {plain(OmegaConf.select(cell.config, path))}" for head, path in rows.items()
    ]
    return ", ".join([cell.config.method.label, *settings])


def task_examples(grid: Grid, runs: dict[str, Run], problems: list[str]) -> dict[str, Any] | None:
    """One task's examples; None where no run of it is finished. Notes in ``problems`` what it leaves out."""
    seed = grid.cells[0].config.seed
    outputs: dict[str, dict[Any, dict[str, Any]]] = {}
    for cell in grid.cells:
        run = runs.get(cell.key)
        if run is None or cell.config.seed != seed:
            continue
        try:
            outputs[row_label(grid, cell)] = {line["id"]: readable(line) for line in run.predictions()}
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            problems.append(f"{run.path / 'predictions.jsonl'} is left out: it cannot be read ({error})")
    if not outputs:
        return None
    first = next(iter(outputs.values()))
    shared = [key for key in first if all(key in lines for lines in outputs.values())]
    step = max(1, len(shared) // ITEMS)
    items = [
        {
            "id": key,
            "input": shorten(first[key]["input"]),
            "references": first[key]["references"][:REFERENCES],
            "outputs": {label: lines[key]["prediction"] for label, lines in outputs.items()},
        }
        for key in shared[::step][:ITEMS]
    ]
    config = grid.cells[0].config
    return {"task": config.task.name, "model": config.model.name, "seed": seed, "items": items}


def readable(line: dict[str, Any]) -> dict[str, Any]:
    """A line of predictions with the fields that are shown.

    Raises:
        KeyError, TypeError: it lacks one of them.
    """
    texts = [line["input"], line["prediction"], *line["references"]]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a text is not a string")
    return line


def shorten(text: str) -> str:
    """At most `LONGEST` characters, cut at a space."""
    return text if len(text) <= LONGEST else text[:LONGEST].rsplit(" ", 1)[0] + " […]"
