"""Figures: colours that the colour-blind tell apart (Okabe and Ito), markers that read in grey, files that repeat.

However many methods there are, each has a line, and no two the same colour and marker.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from delta_lora.files import write_whole
from delta_lora.suite.pages.words import setting_head
from delta_lora.suite.tables.figure3 import of_shared_seeds
from delta_lora.suite.tables.shape import different_seeds
from delta_lora.suite.tables.table import Table, shared_seeds

GREEN, BLUE, VERMILION, PURPLE = "#009E73", "#0072B2", "#D55E00", "#CC79A7"
COLORS = (GREEN, BLUE, VERMILION, PURPLE, "#E69F00", "#56B4E9", "#000000", "#F0E442")  # all eight, yellow last
MARKERS = "so^DvPX*<"  # one more than colours: 72 lines until a pair comes again
DASHES = ("--", "-", "-.", ":")
FEW = 4  # lines that leave room for their legend among them
UNITS = {"BLEU": "× 100", "METEOR": "× 100", "ROUGE-L": "× 100", "NIST": "bits", "CIDEr": "0–10"}
NAMES = {"q": "W_q", "v": "W_v"}
DPI = 110


def look(place: int) -> dict[str, Any]:
    """The colour, marker and dashes of a figure's line, by its place among them."""
    again = place // (len(COLORS) * len(MARKERS))  # then with the next dashes
    return {
        "color": COLORS[place % len(COLORS)],
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": DASHES[(place + again) % len(DASHES)],
    }


OURS, PAPER = look(1), look(2)


def style() -> AbstractContextManager[None]:
    """Settings under which every figure is drawn and saved; equal figures then give equal files."""
    return matplotlib.rc_context(
        {
            "font.family": "DejaVu Sans",  # comes with matplotlib
            "font.size": 9,
            "axes.spines.top": False,
            "axes.grid": True,
            "grid.color": "#dddddd",
            "grid.linewidth": 0.6,
            "lines.markersize": 5,
            "svg.hashsalt": "delta-lora",  # names of an SVG's parts, else random
            "svg.fonttype": "path",
        }
    )


def image(figure: Figure, suffix: str) -> bytes:
    """The figure as a ``png`` or ``svg`` file without a date or a version in it."""
    buffer = BytesIO()
    with style():
        metadata = {"Software": None} if suffix == "png" else {"Date": None, "Creator": None}
        figure.savefig(buffer, format=suffix, dpi=DPI, metadata=metadata)
    return buffer.getvalue() if suffix == "svg" else with_palette(buffer)


def with_palette(png: BytesIO) -> bytes:
    """A PNG of 64 colours, a quarter of the size: notebooks and the repository hold these files."""
    smaller = BytesIO()
    Image.open(png).convert("RGB").quantize(64).save(smaller, "png", optimize=True)
    return smaller.getvalue()


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write ``<stem>.png`` and ``<stem>.svg``."""
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("png", "svg")]
    for path in paths:
        write_whole(path, image(figure, path.suffix[1:]))
    return paths


def draw_curves(table: Table) -> Figure:
    """Each score of a sweep over its setting (λ or K), the paper's curve laid over where the table is one of its.

    Where ours may not be held against the paper, its curve has an axis of its own.
    """
    swept = table.swept
    assert swept is not None, f"{table.heading} is no sweep"
    settings = [row.settings[swept] for row in table.rows]
    width = min(3, len(table.spec.columns) + 1)
    height = math.ceil((len(table.spec.columns) + 1) / width)  # the last panel is left to the legend
    with style():
        figure = Figure(figsize=(3.2 * width, 2.7 * height), layout="constrained")
        panels = list(figure.subplots(height, width, squeeze=False).flat)
        panels, rest = panels[: len(table.spec.columns)], panels[len(table.spec.columns) :]
        for axes, column in zip(panels, table.spec.columns, strict=True):
            lines = draw_curve(axes, table, column)
            axes.set_title(column, fontsize=9, fontweight="bold")
            ticks = [tick(mine, printed) for mine, printed in settings]
            every = 2 if len(ticks) > 7 and two_lines(settings) else 1  # more would overlap
            axes.set_xticks(range(len(ticks))[::every], ticks[::every], fontsize=7)
            axes.set_xlabel(f"{setting_head(swept)}{': ours (the paper’s below)' if two_lines(settings) else ''}")
            axes.set_ylabel(f"{column}, {UNITS.get(column, '')}".rstrip(", "))
        for axes in rest:
            axes.axis("off")
        apart = table.of_paper and not table.comparable
        note = "\nOther models and data than the paper's:\nour axis is left, the paper's right" if apart else ""
        rest[-1].legend(
            handles=lines, loc="upper left", fontsize=8, title=f"{table.heading}{note}", title_fontsize=8
        )  # fmt: skip
    return figure


def draw_curve(axes: Axes, table: Table, column: str) -> list[Any]:
    """One score over the rows, its 95 % band and every seed as a dot; returns what the legend names.

    The line joins means over the seeds that all rows have, for a row of other seeds would move it; without such a
    seed there are the dots alone.
    """
    places = np.arange(len(table.rows))
    scores = [row.scores[column] for row in table.rows]
    seeds = shared_seeds(table.rows, column)
    joined = [None if score is None or not seeds else score.of(seeds) for score in scores]
    means = np.array([math.nan if score is None else score.mean for score in joined])
    half = np.array([math.nan if score is None or score.half is None else score.half for score in joined])
    printed = [float(row.printed[column] or "nan") for row in table.rows]
    lines: list[Any] = []
    if table.of_paper:
        right = axes if table.comparable else axes.twinx()
        lines += right.plot(places, printed, label="the paper's", **PAPER)
        if right is not axes:
            right.grid(False)
            right.tick_params(axis="y", colors=PAPER["color"])
            axes.tick_params(axis="y", colors=OURS["color"])
    name = "ours, seeds of all rows" if different_seeds(table, column) else "ours"
    found: list[Any] = [*axes.plot(places, means, label=name, **OURS)] if seeds else []
    dots = [(place, value) for place, one in enumerate(scores) if one for value in one.by_seed.values()]
    if any(score is not None and score.seeds > 1 for score in scores) or (dots and not seeds):
        faint = {"color": OURS["color"], "alpha": 0.5, "s": 8, "linewidths": 0}
        found.append(axes.scatter(*zip(*dots, strict=True), label="each seed", **faint))
    if not np.isnan(half).all():
        shade = {"color": OURS["color"], "alpha": 0.15, "linewidth": 0}
        found.append(axes.fill_between(places, means - half, means + half, label="95 % over seeds", **shade))
    return [*found, *lines]


def two_lines(settings: Sequence[tuple[str, str]]) -> bool:
    """Whether ours are other values than the paper's, as for K at a smaller scale."""
    return any(mine and printed and mine != printed for mine, printed in settings)


def tick(mine: str, printed: str) -> str:
    """``40`` over ``(500)``, or one number where they agree."""
    return mine or f"({printed})" if mine == printed or not (mine and printed) else f"{mine}\n({printed})"


def draw_similarity(frame: pd.DataFrame) -> Figure:
    """Figure 3: for W_q and W_v the cosine to the pretrained weights over blocks, a line per method.

    Args:
        frame: of `Figure3`; of the seeds that all methods have means, with their range as a band.
    """
    frame = of_shared_seeds(frame)
    with style():
        figure = Figure(figsize=(9.6, 3.6), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, projection in zip(panels, NAMES, strict=True):
            lines_over_blocks(axes, frame[frame["projection"] == projection], "cosine")
            axes.set_title(NAMES[projection], fontsize=9, fontweight="bold")
        panels[0].set_ylabel("cosine similarity to the pretrained weights")
        name_lines(figure, panels[1])
    return figure


def lines_over_blocks(axes: Axes, frame: pd.DataFrame, column: str) -> None:
    """One line per method, mean over seeds, with their range as a band."""
    for place, (label, part) in enumerate(frame.groupby("label", sort=False)):
        by_block = part[column].groupby(part["block"])
        mean = by_block.mean()
        axes.plot(mean.index, mean, label=str(label), **look(place))
        if part["seed"].nunique() > 1:
            shade = {"color": look(place)["color"], "alpha": 0.15, "linewidth": 0}
            axes.fill_between(mean.index, by_block.min(), by_block.max(), **shade)
    axes.set_xlabel("block")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def name_lines(figure: Figure, axes: Axes) -> None:
    """The legend of a figure's lines: in a panel, or below them where it would cover them."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) <= FEW:
        axes.legend(fontsize=8)
    else:
        figure.set_figheight(figure.get_figheight() + 0.25 * math.ceil(len(labels) / 3))
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)


def draw_spectra(frame: pd.DataFrame) -> Figure:
    """What the paper does not show: each update's singular values, as parts of the largest, and its rank by block.

    Args:
        frame: of `Figure3`. The lines are medians over blocks and the shared seeds, the bands their range.
    """
    frame = of_shared_seeds(frame)
    with style():
        figure = Figure(figsize=(9.6, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        for place, (label, part) in enumerate(frame.groupby("label", sort=False)):
            length = min(len(values) for values in part["singular_values"])
            spectra = [np.array(values[:length]) for values in part["singular_values"] if length and values[0] > 0]
            if spectra:
                parts = np.array([values / values[0] for values in spectra])
                parts = np.maximum(parts, 1e-8)  # zeros have no place on a logarithmic axis
                order = np.arange(1, length + 1)
                left.plot(
                    order, np.median(parts, axis=0), label=str(label), markevery=max(1, length // 8), **look(place)
                )
                shade = {"color": look(place)["color"], "alpha": 0.15, "linewidth": 0}
                left.fill_between(order, parts.min(0), parts.max(0), **shade)
        left.set(yscale="log", xlabel="singular value, the largest first", ylabel="part of the largest one")
        lines_over_blocks(right, frame, "rank")
        right.set(yscale="log", ylabel="rank of W − W₀ (singular values above zero)")
        name_lines(figure, right)
    return figure
