"""Figure 3: how similar each block's W_q and W_v stay to the pretrained ones, from the runs' ``similarity.json``."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

import pandas as pd
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from delta_lora.places import place
from delta_lora.suite.config.cell import is_number
from delta_lora.suite.config.grid import Grid, GridCell, compose_grid
from delta_lora.suite.records.records import NoRunError, Run, read_runs
from delta_lora.suite.tables.build import missing_facts
from delta_lora.suite.tables.copies import of_any_copy

FILE = "similarity.json"
NUMBERS = ("cosine", "weight_norm", "update_norm", "rank", "entropy_rank")
LARGEST = 1e30  # that a norm or a rank can be


@dataclass
class SimilarityClaim:
    """A sentence of the figure: in most blocks ``method`` is the most (``highest``) or least similar of ``among``."""

    says: str
    method: str
    highest: bool
    among: list[str]


@dataclass
class FigureSpec:
    """The ``figure`` section of ``configs/table/figure3.yaml``; ``number``: the paper's figure, or null."""

    title: str
    number: int | None = None
    claims: list[SimilarityClaim] = field(default_factory=list)


@dataclass(frozen=True)
class Figure3:
    """The figure's numbers.

    name: of its file in ``configs/table``, and of those that are written of it. frame: a row per weight matrix and
    run, as in ``figure3.csv``, ``singular_values`` a tuple; ``beyond`` is the part of the update's energy ‖W − W₀‖²
    beyond LoRA's rank, ``stable_rank`` ‖W − W₀‖² / σ₁². runs: where they come from. problems: records that were left
    out, and why.
    """

    name: str
    spec: FigureSpec
    grid: Grid
    frame: pd.DataFrame
    runs: list[Run]
    problems: list[str]

    @property
    def heading(self) -> str:
        """What it is called: ``Figure 3``; where the paper has no such figure, its name."""
        return self.name if self.spec.number is None else f"Figure {self.spec.number}"


def find_figure3(overrides: Sequence[str]) -> Figure3:
    """The figure of a grid, from the finished runs in its ``results_dir``.

    Args:
        overrides: as ``scripts/train.py -m`` takes them: ``["table=figure3", "scale=tiny"]``.

    Raises:
        UserError: no finished run of it that says how far its weights have moved; it names the command to make them.
    """
    grid = compose_grid(overrides)
    results = place("results_dir", grid.config.results_dir)
    figure = build_figure3(grid, read_runs(results))
    if figure.frame.empty:
        left_out = "".join(f"{problem}; " for problem in figure.problems)
        raise NoRunError(f"{left_out}no finished run of {figure.heading} in {results / 'runs'}: {grid.command}")
    return figure


def build_figure3(grid: Grid, runs: Sequence[Run]) -> Figure3:
    """Collect what the records of a grid's cells say; a record that says nothing usable is a problem, not a guess."""
    grid, spec = of_any_copy(grid, runs), figure_spec(grid.config)
    by_key = {run.key: run for run in runs}
    rows: list[dict[str, Any]] = []
    used, problems = [], []
    for cell in grid.cells:
        run = by_key.get(cell.key)
        if run is None:
            continue
        again = f"delete that folder and train it again: {grid.command}"
        name = f"{run.path} ({cell.config.method.name}, seed {cell.config.seed})"
        if lacking := missing_facts(run):
            problems.append(f"{name} is left out: it lacks {', '.join(lacking)}; {again}")
            continue
        try:
            rows += similarity_rows(cell, run)
            used.append(run)
        except FileNotFoundError:
            problems.append(f"{name} is left out: it has no {FILE}; {again}")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            problems.append(f"{name} is left out: its {FILE} cannot be read ({error}); {again}")
    return Figure3(grid.table or "figure3", spec, grid, pd.DataFrame(rows), used, problems)


def shared_seeds(frame: pd.DataFrame) -> list[int]:
    """The seeds that all methods have, on which they can be compared."""
    return sorted(set.intersection(*(set(part["seed"]) for _, part in frame.groupby("label"))))


def of_shared_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the seeds that all methods have; all rows where there is no such seed."""
    seeds = shared_seeds(frame)
    return frame[frame["seed"].isin(seeds)] if seeds else frame


def seeds_said(frame: pd.DataFrame) -> str:
    """What means over a frame are of, in words."""
    seeds = shared_seeds(frame)
    if not seeds:
        return "No seed has a run of every method, so each method's means are over its own seeds: compare none of them."
    name = "Seed" if len(seeds) == 1 else "Seeds"
    return f"{name} of every method, which means are over: {', '.join(map(str, seeds))}."


def figure_spec(config: DictConfig) -> FigureSpec:
    """The ``figure`` section of a composed configuration."""
    spec = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(FigureSpec), config.figure))
    assert isinstance(spec, FigureSpec)
    return spec


def similarity_rows(cell: GridCell, run: Run) -> list[dict[str, Any]]:
    """A run's matrices, one a row, by block.

    Raises:
        OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError: its file is not there, or not as a
            run writes it.
    """
    rows, method = [], cell.config.method
    limit, rank = instantiate(method).rank_limit(), cell.config.task.per_method.lora.rank
    for module, found in json.loads(run.text(FILE)).items():
        name = re.search(r"\.(\d+)\..*\b([qv])_proj$", module)
        if name is None:
            raise ValueError(f"{module} is no block's q_proj or v_proj")
        values, spectrum = {key: found[key] for key in NUMBERS}, list(found["singular_values"])
        if not all(is_number(value) and abs(value) < LARGEST for value in (*values.values(), *spectrum)):
            raise ValueError(f"{module} has something that is no number, or none that a norm can be")
        if abs(values["cosine"]) > 1.0001 or min([values[key] for key in NUMBERS[1:]] + spectrum) < 0:
            raise ValueError(f"{module} has a cosine beyond 1, or a norm, rank or singular value below 0")
        rows.append(
            {"method": method.name, "label": method.label, "seed": cell.config.seed, "block": int(name[1])}
            | {"projection": name[2], "module": module}
            | values
            | dict(zip(("stable_rank", "beyond"), energies(spectrum, values["update_norm"], rank), strict=True))
            | {"rank_limit": "" if limit is None else str(limit), "run": run.key, "singular_values": tuple(spectrum)}
        )
    if not rows:
        raise ValueError("no matrix in it")
    return sorted(rows, key=lambda row: (row["projection"], row["block"]))


def energies(spectrum: Sequence[float], norm: float, rank: int) -> tuple[float, float]:
    """The stable rank ‖ΔW‖² / σ₁², and the part of ‖ΔW‖² beyond the ``rank`` largest singular values; 0, 0 for ΔW = 0.

    Args:
        spectrum: the largest singular values, at least ``rank`` of them where there are so many.
        norm: ‖ΔW‖ (Frobenius).
    """
    if norm == 0 or not spectrum or spectrum[0] == 0:
        return 0.0, 0.0
    parts = [value / norm for value in spectrum[:rank]]
    return (norm / spectrum[0]) * (norm / spectrum[0]), max(0.0, 1 - sum(part * part for part in parts))


def to_csv(frame: pd.DataFrame) -> str:
    """The figure's numbers as ``figure3.csv``: six digits each, five of the singular values."""
    spectra = [" ".join(f"{value:.5g}" for value in values) for values in frame["singular_values"]]
    return frame.assign(singular_values=spectra).to_csv(index=False, lineterminator="\n", float_format="%.6g")


def read_csv(text: str) -> pd.DataFrame:
    """The frame that a file of `to_csv` shows, for where the runs are not at hand."""
    frame = pd.read_csv(StringIO(text), dtype={"rank_limit": str, "run": str}, keep_default_na=False)
    return frame.assign(singular_values=[tuple(map(float, str(text).split())) for text in frame["singular_values"]])
