"""A few test items of each generation task with every method's text, so that a reader sees how methods fail."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from delta_lora.errors import UserError
from delta_lora.files import write_whole
from delta_lora.suite.config.grid import Grid, compose_grid
from delta_lora.suite.pages.table import folder_of
from delta_lora.suite.records.records import Run, read_runs

TABLES = ("table1", "table2", "table3")  # the generation tasks, each with all methods
ITEMS = 4  # a task, evenly spaced over the test set: chosen by place, not by how the methods do
LONGEST = 700  # characters of a shown input: XSum's are whole articles
REFERENCES = 3  # of each item, the first


def render_examples(overrides: Sequence[str], write: bool = True) -> tuple[list[dict[str, Any]], list[str], list[Path]]:
    """Write ``examples.json`` from the runs of Tables 1 to 3, of the first seed asked for; ``write=False``: only find.

    Returns:
        The tasks' examples, the records that were left out and why, and the file below ``<results_dir>/<scale>``.

    Raises:
        UserError: not one finished run of these tables.
    """
    grids = [compose_grid([f"table={name}", *overrides]) for name in TABLES]
    folder = folder_of(grids[0])
    runs = {run.key: run for run in read_runs(folder.parent)}
    problems: list[str] = []
    found = [task for grid in grids if (task := task_examples(grid, runs, problems)) is not None]
    if not found:
        raise UserError(
            f"no finished run of Tables 1 to 3 in {folder.parent / 'runs'}: {' or '.join(g.command for g in grids)}"
        )
    path = folder / "examples.json"
    if write:
        write_whole(path, json.dumps(found, ensure_ascii=False, indent=1) + "\n")
    return found, problems, [path]


def task_examples(grid: Grid, runs: dict[str, Run], problems: list[str]) -> dict[str, Any] | None:
    """One task's examples; None where no run of it is finished. Notes in ``problems`` what it leaves out."""
    seed = grid.cells[0].config.seed
    outputs: dict[str, dict[Any, dict[str, Any]]] = {}
    for cell in grid.cells:
        run = runs.get(cell.key)
        if run is None or cell.config.seed != seed:
            continue
        try:
            outputs[cell.config.method.label] = {line["id"]: readable(line) for line in run.predictions()}
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
