"""What the notebooks show: from the finished runs, or, where there are none, from the files rendered before.

Whatever is in neither place is one line that names the command that makes it. ``DELTA_LORA_SCALE``,
``DELTA_LORA_RESULTS`` and ``DELTA_LORA_SEEDS`` choose the scale (for each thing shown the largest that has it), the
results folder (results) and the seeds (1, or 1,2,3).
"""

import json
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from delta_lora.errors import UserError
from delta_lora.places import place, variable
from delta_lora.suite.config.compose import CONFIGS, left_out, why_not
from delta_lora.suite.config.grid import Grid, compose_grid
from delta_lora.suite.pages import claims_page
from delta_lora.suite.pages.examples import render_examples
from delta_lora.suite.pages.figure_page import rank_texts
from delta_lora.suite.pages.html import examples_html, message_html, table_html, texts_html
from delta_lora.suite.pages.plots import draw_curves, draw_similarity, draw_spectra, image
from delta_lora.suite.pages.render import find_table
from delta_lora.suite.pages.texts import Texts
from delta_lora.suite.pages.view import table_view
from delta_lora.suite.tables import figure3
from delta_lora.suite.tables.csv_file import read_table, seeds_in
from delta_lora.suite.tables.spec import OF, names_with, own_tables, table_spec
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


class Picture:
    """A PNG image and what it shows in words."""

    def __init__(self, png: bytes, text: str) -> None:
        self.png, self.text = png, text

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data = {"image/png": b64encode(self.png).decode(), "text/plain": self.text}
        return data, {"image/png": {"alt": self.text}}

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
    """What ``scripts/render.py`` would be given for a name: the seeds of its rendered file, else those asked for."""
    path = results_dir() / at / f"{table}.csv"
    shown = seeds_in(path.read_text(encoding="utf-8")) if path.is_file() else []
    seeds = ",".join(map(str, shown)) or variable("DELTA_LORA_SEEDS") or "1"
    return [f"table={table}", f"scale={at}", f"seed={seeds}", f"results_dir={results_dir()}"]


def message(text: str) -> Shown:
    """A line instead of a table or a figure."""
    return Shown(message_html(text), text)


def load(name: str, at: str, command: str, from_runs: Callable[[], T], from_file: Callable[[str], T]) -> T | Shown:
    """From the runs of a scale; where there are none, from the file rendered of them before; else a message."""
    if any(any(folder.glob("*/run.json")) for folder in (results_dir() / "runs", results_dir() / at / "runs")):
        with suppress(UserError):  # it has no run
            return from_runs()
    path = results_dir() / at / name
    if path.is_file():
        return from_file(path.read_text(encoding="utf-8"))
    return message(f"{name}: no finished run and no rendered file of it; make {command} SCALE={at}")


@cache
def table(name: str, at: str = "") -> Table | Shown:
    """A table of ``configs/table``, in numbers; where the scale has none, why.

    Args:
        name: its file's name.
        at: the scale; "": as `scale` has it.
    """
    at = at or scale(f"{name}.csv")
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
    """Of a table of ``configs/table``."""
    return compose_grid(overrides(name, at))


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


def face() -> Shown:
    """What must be known before the numbers are read: the scale, or what is of which, and what may be compared."""
    names = [*names_with("table"), *names_with("figure")]
    of: dict[str, list[str]] = {one: [name for name in names if scale(f"{name}.csv") == one] for one in SCALES}
    asked = variable("DELTA_LORA_SCALE")
    shown = [asked] if asked else [one for one, had in of.items() if had]
    if asked:
        text = f"Scale {asked}."
    else:
        each = "; ".join(f"{one}: {', '.join(of[one])}" for one in shown)
        text = f"Each table and figure at the largest scale that there are results of: {each}."
    configs = [compose_grid([*overrides("table1", one), "method=lora"]).config.scale for one in shown]
    if not all(config.comparable for config in configs):
        text += (
            " Not comparable with the paper: the models and the data are others. Compare our rows with each other; "
            "the paper's numbers are shown for orientation only."
        )
    return Shown(message_html(text, strong=True), text)


def show_table(name: str) -> Shown:
    """What ours are of, and ours, the paper's and the gains; coloured by what is better."""
    found = table(name)
    if isinstance(found, Shown):
        return found
    view = table_view(found)
    warning = message_html(view.warning) if view.warning else ""
    return Shown(warning + table_html(view), f"{view.warning}\n{view.texts}".lstrip())


def show_own_tables() -> Shown:
    """The tables in ``configs/table`` that are not the paper's, one below the other."""
    shown: list[Shown] = []
    for name in own_tables():
        found = table(name)
        if isinstance(found, Table):
            title = table_view(found).title
            shown.append(Shown(message_html(title, strong=True), ""))
        shown.append(show_table(name))
    if not shown:
        return message("There are no others: a table of one's own is one more YAML file in configs/table.")
    return Shown("".join(part.html for part in shown), "\n".join(part.text for part in shown if part.text))


def show_curves(name: str) -> Shown | Picture:
    """The scores of a sweep, such as Table 7 or 8, over its setting, with the paper's curve where it has one."""
    found = table(name)
    if isinstance(found, Shown):
        return found
    return Picture(image(draw_curves(found), "png"), f"Curves of {found.heading}, scale {found.grid.config.scale.name}")


def show_shape(name: str) -> Shown:
    """The shape of a table's columns: which row is best, and whether ours rank as the paper's do."""
    found = table(name)
    if isinstance(found, Shown):
        return found
    texts = table_view(found).shape
    return message(f"{found.heading} has no shape to show") if texts is None else plain_table(texts)


def show_similarity() -> Shown | Picture:
    """Figure 3."""
    found = similarity()
    return (
        found
        if isinstance(found, Shown)
        else Picture(image(draw_similarity(found), "png"), f"Figure 3, scale {scale('figure3.csv')}")
    )


def show_spectra() -> Shown | Picture:
    """The singular values and ranks of the updates."""
    found = similarity()
    if isinstance(found, Shown):
        return found
    return Picture(image(draw_spectra(found), "png"), "Singular values and ranks of the updates")


def show_ranks() -> Shown:
    """How far each method moves the weights, and the rank of its updates."""
    found = similarity()
    return found if isinstance(found, Shown) else plain_table(rank_texts(found))


def show_claims() -> Shown:
    """A line per sentence of the paper, as last rendered: resampling takes minutes, so it is not done here."""
    at = scale("claims.csv")
    path = results_dir() / at / "claims.csv"
    if not path.is_file():
        return message(f"claims.csv: nothing rendered of it; make claims SCALE={at}")
    return plain_table(claims_page.summary(claims_page.read_csv(path.read_text(encoding="utf-8"))))


def plain_table(texts: Texts) -> Shown:
    """A table of texts."""
    return Shown(texts_html(texts), "\n".join(" | ".join(line) for line in (texts.heads, *texts.lines)))


def show_examples(task: str) -> Shown:
    """A task's test items: the input, the references, and each method's text."""

    def holds(path: Path) -> bool:
        return path.is_file() and any(one["task"] == task for one in json.loads(path.read_text(encoding="utf-8")))

    found = examples(at := scale("examples.json", holds))
    if isinstance(found, Shown):
        return found
    chosen = next((one for one in found if one["task"] == task), None)
    if chosen is None:
        return message(f"{task}: no finished run; make tables SCALE={at}")
    plain = []
    for item in chosen["items"]:
        rows = [("Input", item["input"]), *(("Reference", text) for text in item["references"])]
        plain += [f"{name}: {text}" for name, text in (*rows, *item["outputs"].items())] + [""]
    return Shown(message_html(f"Scale {at}.") + examples_html(chosen["items"]), "\n".join([f"Scale {at}.", *plain]))
