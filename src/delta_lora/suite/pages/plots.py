"""Figures: colours that the colour-blind tell apart (Okabe and Ito), markers that read in grey, files that repeat.

A figure is drawn from a rendered CSV file's frame, so that it can be drawn again where the runs are missing.
"""

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
from delta_lora.suite.pages.layout import HEADS
from delta_lora.suite.tables.frames import numbers
from delta_lora.suite.tables.spec import TableSpec

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"  # of Okabe and Ito's eight
STYLES: list[dict[str, Any]] = [  # in the order of a figure's lines
    {"color": GREEN, "marker": "s", "linestyle": "--"},
    {"color": BLUE, "marker": "o", "linestyle": "-"},
    {"color": ORANGE, "marker": "^", "linestyle": "-."},
    {"color": PURPLE, "marker": "D", "linestyle": ":"},
]
UNITS = {"BLEU": "× 100", "METEOR": "× 100", "ROUGE-L": "× 100", "NIST": "bits", "CIDEr": "0–10"}
NAMES = {"q": "W_q", "v": "W_v"}
DPI = 110


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


def draw_curves(frame: pd.DataFrame, spec: TableSpec, comparable: bool) -> Figure:
    """Each score of a sweep over its setting (λ or K), the paper's curve laid over.

    Args:
        frame: of the table's CSV.
        comparable: ours may be held against the paper; else the paper's curve has an axis of its own.
    """
    swept = spec.swept
    assert swept is not None, f"Table {spec.number} is no sweep"
    places = np.arange(len(frame))
    with style():
        figure = Figure(figsize=(9.6, 5.4), layout="constrained")
        grid = figure.subplots(2, 3)
        for axes, column in zip(grid.flat, spec.columns, strict=False):
            right = axes if comparable else axes.twinx()
            paper = right.plot(places, numbers(frame, f"{column} (paper)"), label="the paper's", **STYLES[2])
            ours = axes.errorbar(
                places, numbers(frame, column), yerr=spread(frame, column), capsize=2, label="ours", **STYLES[1]
            )
            axes.set_title(column, fontsize=9, fontweight="bold")
            ticks = [tick(mine, printed) for mine, printed in settings(frame, swept)]
            every = 2 if len(ticks) > 7 and two_lines(frame, swept) else 1  # more would overlap
            axes.set_xticks(places[::every], ticks[::every], fontsize=7)
            axes.set_xlabel(f"{HEADS[swept]}{': ours (the paper’s below)' if two_lines(frame, swept) else ''}")
            axes.set_ylabel(f"{column}, {UNITS.get(column, '')}".rstrip(", "))
            if not comparable:
                right.grid(False)
                right.tick_params(axis="y", colors=ORANGE)
                axes.tick_params(axis="y", colors=BLUE)
        for axes in grid.flat[len(spec.columns) :]:
            axes.axis("off")
        note = "" if comparable else ("\nOther models and data than the paper's:\nour axis is left, the paper's right")
        legend = grid.flat[-1]
        legend.legend(
            handles=[ours, paper[0]], loc="upper left", fontsize=8,
            title=f"Table {spec.number}{note}", title_fontsize=8,
        )  # fmt: skip
    return figure


def spread(frame: pd.DataFrame, column: str) -> pd.Series | None:
    """The standard deviation over seeds, where there are several."""
    sd = numbers(frame, f"{column} sd")
    return None if sd.isna().all() else sd


def settings(frame: pd.DataFrame, swept: str) -> list[tuple[str, str]]:
    """Each row's setting: ours and the paper's."""
    return list(zip(frame[swept], frame[f"{swept} (paper)"], strict=True))


def two_lines(frame: pd.DataFrame, swept: str) -> bool:
    """Whether ours are other values than the paper's, as for K at a smaller scale."""
    return any(mine and printed and mine != printed for mine, printed in settings(frame, swept))


def tick(mine: str, printed: str) -> str:
    """``40`` over ``(500)``, or one number where they agree."""
    return mine or f"({printed})" if mine == printed or not (mine and printed) else f"{mine}\n({printed})"


def draw_similarity(frame: pd.DataFrame) -> Figure:
    """Figure 3: for W_q and W_v the cosine to the pretrained weights over blocks, a line per method.

    Args:
        frame: of ``figure3.csv``; several seeds give means, with their range as a band.
    """
    with style():
        figure = Figure(figsize=(9.6, 3.6), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, projection in zip(panels, NAMES, strict=True):
            lines_over_blocks(axes, frame[frame["projection"] == projection], "cosine")
            axes.set_title(NAMES[projection], fontsize=9, fontweight="bold")
        panels[0].set_ylabel("cosine similarity to the pretrained weights")
        panels[1].legend(fontsize=8)
    return figure


def lines_over_blocks(axes: Axes, frame: pd.DataFrame, column: str) -> None:
    """One line per method, mean over seeds, with their range as a band."""
    for label, look in zip(dict.fromkeys(frame["label"]), STYLES, strict=False):
        part = frame[frame["label"] == label]
        by_block = numbers(part, column).groupby(part["block"].astype(int))
        mean = by_block.mean()
        axes.plot(mean.index, mean, label=label, **look)
        if part["seed"].nunique() > 1:
            axes.fill_between(mean.index, by_block.min(), by_block.max(), color=look["color"], alpha=0.15, linewidth=0)
    axes.set_xlabel("block")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def draw_spectra(frame: pd.DataFrame) -> Figure:
    """What the paper does not show: each update's singular values, as parts of the largest, and its rank by block.

    Args:
        frame: of ``figure3.csv``. The lines are medians over blocks and seeds, the bands their range.
    """
    with style():
        figure = Figure(figsize=(9.6, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        for label, look in zip(dict.fromkeys(frame["label"]), STYLES, strict=False):
            lists = [np.array(text.split(), dtype=float) for text in frame[frame["label"] == label]["singular_values"]]
            length = min(len(values) for values in lists)
            parts = np.array([values[:length] / values[0] for values in lists if length and values[0] > 0])
            if parts.size:
                order = np.arange(1, length + 1)
                parts = np.maximum(parts, 1e-8)  # zeros have no place on a logarithmic axis
                left.plot(order, np.median(parts, axis=0), label=label, markevery=max(1, length // 8), **look)
                left.fill_between(order, parts.min(0), parts.max(0), color=look["color"], alpha=0.15, linewidth=0)
        left.set(yscale="log", xlabel="singular value, the largest first", ylabel="part of the largest one")
        lines_over_blocks(right, frame, "rank")
        right.set(yscale="log", ylabel="rank of W − W₀ (singular values above zero)")
        right.legend(fontsize=8)
    return figure
