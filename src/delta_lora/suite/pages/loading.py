"""Tables and figures of a scale: from its finished runs, or, where there are none, from the files rendered before.

Whatever is in neither place is one line that names the command that makes it. ``DELTA_LORA_SCALE``,
``DELTA_LORA_RESULTS`` and ``DELTA_LORA_SEEDS`` choose the scale (for each thing shown the largest that has it), the
results folder (results) and the seeds (1, or 1,2,3).
"""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from delta_lora.places import place, variable
from delta_lora.suite.config.compose import CONFIGS, left_out, why_not
from delta_lora.suite.config.grid import Grid, compose_grid
from delta_lora.suite.pages.examples import render_examples
from delta_lora.suite.pages.html import message_html
from delta_lora.suite.pages.provenance import asked_on
from delta_lora.suite.pages.render import find_table
from delta_lora.suite.records.records import NoRunError
from delta_lora.suite.tables import figure3
from delta_lora.suite.tables.csv_file import read_table, seeds_in
from delta_lora.suite.tables.spec import OF, table_spec
from delta_lora.suite.tables.table import Row, Table

ROOT = CONFIGS.parent
SCALES = ("paper", "laptop", "tiny")  # from the most telling on
T = TypeVar("T")


class Shown:
    """A piece of a page: HTML in a notebook, text on a terminal."""

    def __init__(self, html: str, text: str) -> None:
        self.html, self.text = html, text

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def scale(name: str, holds: Callable[[Path], bool] = Path.is_file) -> str:
    """The scale that something is shown of: ``DELTA_LORA_SCALE``, else the largest that has it; tiny where none has.

    Args:
        name: a rendered file: ``table1.csv``.
        holds: whether a file of that name, which need not exist, has it.
    """
    had = (one for one in SCALES if holds(results_dir() / one / name))
    return variable("DELTA_LORA_SCALE") or next(had, SCALES[-1])


def results_dir() -> Path:
    """Where runs and rendered files lie; a relative one is below the repository."""
    return place("DELTA_LORA_RESULTS", variable("DELTA_LORA_RESULTS", "results"), ROOT)


def overrides(table: str, at: str) -> list[str]:
    """What ``scripts/render.py`` was given for a name, by its page; else the seeds of its file, or those asked for."""
    path = results_dir() / at / f"{table}.csv"
    shown = seeds_in(path.read_text(encoding="utf-8")) if path.is_file() else []
    seeds = ",".join(map(str, shown)) or variable("DELTA_LORA_SEEDS") or "1"
    page = path.with_suffix(".md")
    said = asked_on(page.read_text(encoding="utf-8")) if path.is_file() and page.is_file() else []
    return [f"table={table}", f"scale={at}", *(said or [f"seed={seeds}"]), f"results_dir={results_dir()}"]


def message(text: str) -> Shown:
    """A line instead of a table or a figure."""
    return Shown(message_html(text), text)


def load(name: str, at: str, command: str, from_runs: Callable[[], T], from_file: Callable[[str], T]) -> T | Shown:
    """From the runs of a scale; where there are none, from the file rendered of them before; else a message."""
    if any(any(folder.glob("*/run.json")) for folder in (results_dir() / "runs", results_dir() / at / "runs")):
        with suppress(NoRunError):
            return from_runs()
    path = results_dir() / at / name
    if path.is_file():
        return from_file(path.read_text(encoding="utf-8"))
    return message(f"{name}: no finished run and no rendered file of it; make {command} SCALE={at}")


def table(name: str, at: str = "") -> Table | Shown:
    """A table of ``configs/table``, in numbers; where the scale has none, why.

    Args:
        name: its file's name.
        at: the scale; "": as `scale` has it.
    """
    return table_at(name, at or scale(f"{name}.csv"))


@cache
def table_at(name: str, at: str) -> Table | Shown:
    """A table at a scale, loaded once."""
    if why := left_out(overrides(name, at)).get(name):
        return message(why_not(name, at, why))
    return load(
        f"{name}.csv",
        at,
        name,
        lambda: find_table(grid(name, at)),
        lambda text: read_table(text, grid(name, at), borrowed(name, at)),
    )


@cache
def grid(name: str, at: str) -> Grid:
    """Of a table of ``configs/table``; its command names the results folder only where that is not the repository's."""
    words = overrides(name, at)
    return replace(compose_grid(words), overrides=tuple(w for w in words if w != f"results_dir={ROOT / 'results'}"))


def borrowed(name: str, at: str) -> dict[str, Row]:
    """The rows of other tables that a table names, from their rendered files of the same scale."""
    wanted = {one for one in table_spec(grid(name, at).config, name).named if OF in one}
    others = {other: table(other, at) for other in sorted({one.partition(OF)[0] for one in wanted})}
    rows = {
        f"{other}{OF}{row.name}": row
        for other, found in others.items()
        if isinstance(found, Table)
        for row in found.rows
    }
    return {one: row for one, row in rows.items() if one in wanted}


@cache
def similarity() -> pd.DataFrame | Shown:
    """The numbers of Figure 3."""
    at = scale("figure3.csv")
    runs = overrides("figure3", at)
    return load("figure3.csv", at, "figure3", lambda: figure3.find_figure3(runs).frame, figure3.read_csv)


@cache
def examples(at: str) -> list[dict[str, Any]] | Shown:
    """The tasks' examples at a scale."""
    runs = overrides("", at)[1:]
    return load("examples.json", at, "tables", lambda: render_examples(runs, write=False)[0], json.loads)
