"""What the notebooks show: from the finished runs, or, where there are none, from the files rendered before.

Run records are not in the repository, the files that were rendered from the tiny scale's are. Whatever is in neither
place is one line that names the command that makes it. ``DELTA_LORA_SCALE``, ``DELTA_LORA_RESULTS`` and
``DELTA_LORA_SEEDS`` choose the scale (tiny), the results folder (results) and the seeds (1, or 1,2,3).
"""

import json
import os
from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from delta_lora.errors import UserError
from delta_lora.suite.config.compose import CONFIGS
from delta_lora.suite.config.grid import compose_grid
from delta_lora.suite.pages import layout
from delta_lora.suite.pages.examples import render_examples
from delta_lora.suite.pages.figure3 import RANK_HEADS, rank_texts
from delta_lora.suite.pages.plots import draw_curves, draw_similarity, draw_spectra, image
from delta_lora.suite.pages.table import csv, find_table
from delta_lora.suite.tables.figure3 import find_figure3
from delta_lora.suite.tables.frames import numbers, read_csv
from delta_lora.suite.tables.spec import TableSpec, table_spec

ROOT = CONFIGS.parent
BETTER, WORSE = "#cfe3f2", "#fbdcc0"  # tints of Okabe and Ito's blue and vermilion


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


def scale() -> str:
    """The scale whose results are shown."""
    return os.environ.get("DELTA_LORA_SCALE", "tiny")


def results_dir() -> Path:
    """Where runs and rendered files lie; a relative one is below the repository."""
    return ROOT / os.environ.get("DELTA_LORA_RESULTS", "results")


def overrides(table: str) -> list[str]:
    """What ``scripts/render.py`` would be given for one of its names."""
    seeds = os.environ.get("DELTA_LORA_SEEDS", "1")
    return [f"table={table}", f"scale={scale()}", f"seed={seeds}", f"results_dir={results_dir()}"]


def message(text: str) -> Shown:
    """A line instead of a table or a figure."""
    return Shown(f"<p><em>{escape(text)}</em></p>", text)


def load(name: str, from_runs: Callable[[], str], command: str) -> str | Shown:
    """A rendered file's text: made from the runs; where there are none, as it was rendered before; else a message."""
    if any((results_dir() / "runs").glob("*/run.json")):
        with suppress(UserError):  # it has no run
            return from_runs()
    path = results_dir() / scale() / name
    if path.is_file():
        return path.read_text(encoding="utf-8")
    return message(f"{name}: no finished run and no rendered file of it; make {command} SCALE={scale()}")


@cache
def table_text(number: int) -> str | Shown:
    """``table<N>.csv``."""
    return load(
        f"table{number}.csv", lambda: csv(find_table(compose_grid(overrides(f"table{number}")))), f"table{number}"
    )


@cache
def figure_text() -> str | Shown:
    """``figure3.csv``."""
    return load(
        "figure3.csv",
        lambda: find_figure3(overrides("figure3")).frame.to_csv(index=False, lineterminator="\n"),
        "figure3",
    )


@cache
def spec(number: int) -> TableSpec:
    """How a table is shown."""
    return table_spec(DictConfig(OmegaConf.load(CONFIGS / "table" / f"table{number}.yaml")))


@cache
def scale_config() -> DictConfig:
    """The ``scale`` group as composed."""
    return compose_grid([*overrides("table1"), "method=lora"]).config.scale


def face() -> Shown:
    """What must be known before the numbers are read."""
    text = f"Scale {scale()}."
    if not scale_config().comparable:
        text += (
            " Not comparable with the paper: the models and the data are others. Compare our rows with each other; "
            "the paper's numbers are shown for orientation only."
        )
    return Shown(f"<p><strong>{escape(text)}</strong></p>", text)


def show_table(number: int) -> Shown:
    """Ours, the paper's and the difference, coloured by which is better: also where a low score is the good one."""
    text = table_text(number)
    if isinstance(text, Shown):
        return text
    frame, shown = read_csv(text), spec(number)
    names = [column for column in ("label", *shown.rows) if column in frame.columns and column != "method"]
    heads = [layout.HEADS.get(name, "Method") for name in names]
    digits = {column: 3 if numbers(frame, f"{column} (paper)").max() < 1 else 2 for column in shown.columns}
    top = "".join(f'<th rowspan="2">{escape(head)}</th>' for head in heads)
    top += "".join(
        f'<th colspan="3">{escape(column)} {"↑" if shown.sign(column) == 1 else "↓"}</th>' for column in shown.columns
    )
    under = "<th>ours</th><th>paper</th><th>difference</th>" * len(shown.columns)
    lines, plain = [], []
    for place, row in frame.iterrows():
        cells = [setting(row, name) for name in names]
        html = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        for column in shown.columns:
            ours, paper = (numbers(frame, name)[place] for name in (column, f"{column} (paper)"))
            html += difference_cells(
                ours, paper, shown.sign(column), digits[column], row["status"], row[f"{column} sd"]
            )
            cells.append("not run" if pd.isna(ours) else f"{ours:.{digits[column]}f}")
        lines.append(f"<tr>{html}</tr>")
        plain.append(" | ".join(cells))
    html = f"<table><thead><tr>{top}</tr><tr>{under}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    title = f"Table {number}: {shown.title}"
    return Shown(f'<div style="overflow-x:auto">{html}</div>', "\n".join([title, *plain]))


def setting(row: pd.Series, name: str) -> str:
    """What names a row: a label, or ours and, where it is another, the paper's value of a setting."""
    if name == "label":
        return row[name] + (" (quoted)" if row["status"] == "quoted" else "")
    ours, paper = row[name], row[f"{name} (paper)"]
    return ours if ours == paper or not paper else f"{ours or '–'} (paper {paper})"


def difference_cells(ours: float, paper: float, sign: int, digits: int, status: str, sd: str) -> str:
    """Three cells; the difference says better or worse by its arrow too, for those who see no colours."""
    missing = "–" if status == "quoted" else "not run"
    spread = f" ± {float(sd):.{digits}f}" if sd else ""
    mine = missing if pd.isna(ours) else f"{ours:.{digits}f}{spread}"
    printed = "–" if pd.isna(paper) else f"{paper:.{digits}f}"
    if pd.isna(ours) or pd.isna(paper):
        return f"<td>{mine}</td><td>{printed}</td><td>–</td>"
    difference = round(ours - paper, digits)
    tint = "" if difference == 0 else BETTER if sign * difference > 0 else WORSE
    arrow = "=" if difference == 0 else "▲" if sign * difference > 0 else "▼"
    colour = f' style="background-color:{tint};color:#111"' if tint else ""
    return f"<td>{mine}</td><td>{printed}</td><td{colour}>{difference:+.{digits}f} {arrow}</td>"


def show_curves(number: int) -> Shown | Picture:
    """The scores of Table 7 or 8 over λ or K, with the paper's curve."""
    text = table_text(number)
    if isinstance(text, Shown):
        return text
    figure = draw_curves(read_csv(text), spec(number), scale_config().comparable)
    return Picture(image(figure, "png"), f"Curves of Table {number}")


def show_similarity() -> Shown | Picture:
    """Figure 3."""
    text = figure_text()
    return text if isinstance(text, Shown) else Picture(image(draw_similarity(read_csv(text)), "png"), "Figure 3")


def show_spectra() -> Shown | Picture:
    """The singular values and ranks of the updates."""
    text = figure_text()
    if isinstance(text, Shown):
        return text
    return Picture(image(draw_spectra(read_csv(text)), "png"), "Singular values and ranks of the updates")


def show_ranks() -> Shown:
    """How far each method moves the weights, and the rank of its updates."""
    text = figure_text()
    return text if isinstance(text, Shown) else plain_table(RANK_HEADS, rank_texts(read_csv(text)))


def plain_table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> Shown:
    """A table of texts."""
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in lines)
    html = f'<div style="overflow-x:auto"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    return Shown(html, "\n".join(" | ".join(line) for line in lines))


@cache
def examples() -> list[dict[str, Any]] | Shown:
    """The tasks' examples."""
    text = load("examples.json", lambda: json.dumps(collect_examples()), "tables")
    return text if isinstance(text, Shown) else json.loads(text)


def collect_examples() -> list[dict[str, Any]]:
    """The examples of the runs; nothing is written."""
    return render_examples(overrides("")[1:], write=False)[0]


def show_examples(task: str) -> Shown:
    """A task's test items: the input, the references, and each method's text."""
    found = examples()
    if isinstance(found, Shown):
        return found
    chosen = next((one for one in found if one["task"] == task), None)
    if chosen is None:
        return message(f"{task}: no finished run; make tables SCALE={scale()}")
    parts, plain = [], []
    for item in chosen["items"]:
        rows = [("Input", item["input"]), *(("Reference", text) for text in item["references"])]
        rows += list(item["outputs"].items())
        kind = ["input", *["reference"] * len(item["references"]), *["output"] * len(item["outputs"])]
        body = "".join(
            f'<tr class="{which}"><th style="text-align:left">{escape(name)}</th>'
            f'<td style="text-align:left">{escape(text) or "<em>(empty)</em>"}</td></tr>'
            for which, (name, text) in zip(kind, rows, strict=True)
        )
        parts.append(f'<div style="overflow-x:auto"><table class="examples"><tbody>{body}</tbody></table></div>')
        plain += [f"{name}: {text}" for name, text in rows] + [""]
    return Shown("".join(parts), "\n".join(plain))


class Page:
    """Markdown, which notebooks show as text with headings and tables."""

    def __init__(self, markdown: str) -> None:
        self.markdown = markdown

    def _repr_markdown_(self) -> str:
        return self.markdown

    def __repr__(self) -> str:
        return self.markdown


def show_claims() -> Shown | Page:
    """A line per sentence of the paper, as last rendered: resampling takes minutes, so it is not done here."""
    return rendered_part("claims.md", "claims", end="\nTables: ")


def show_shape(number: int) -> Shown | Page:
    """The shape of a table's columns, as last rendered."""
    return rendered_part(f"table{number}.md", f"table{number}", start="## Shape", end="\n## Claims")


def rendered_part(name: str, command: str, start: str = "| ", end: str = "") -> Shown | Page:
    """A part of a rendered page, from ``start`` to before ``end``, without a heading that starts it."""
    path = results_dir() / scale() / name
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if start not in text:
        return message(f"{name}: nothing rendered of it; make {command} SCALE={scale()}")
    return Page(text[text.index(start) :].split(end)[0].removeprefix(start if start.startswith("#") else "").strip())
