"""A table as a CSV file, numbers in full, and such a file as a table where the runs behind it are not at hand."""

import csv
import re
from collections.abc import Mapping
from dataclasses import replace
from io import StringIO
from typing import Any

import pandas as pd

from delta_lora.errors import UserError
from delta_lora.suite.config.grid import Grid
from delta_lora.suite.tables.build import cell_metrics
from delta_lora.suite.tables.spec import TableSpec, table_spec
from delta_lora.suite.tables.table import COUNTS, Number, Row, Table

BY_SEED = " by seed"  # ends the names of columns with each seed's score
NEXT = "; "  # between a row's diverged runs


def to_csv(table: Table) -> str:
    """One line per row of the table; empty where there is none, and why in ``status``."""
    return pd.DataFrame([record(table, row) for row in table.rows]).to_csv(index=False, lineterminator="\n")


def record(table: Table, row: Row) -> dict[str, Any]:
    """One row, column by column; the columns ``… (paper)`` only where the table is one of the paper's."""
    found: dict[str, Any] = {"row": row.name}
    if "method" in table.spec.rows:
        found["label"] = row.label
    for head, (ours, paper) in row.settings.items():
        found |= {head: ours, f"{head} (paper)": paper}
    if table.spec.parameters:
        for name in COUNTS:
            found |= {name: "-".join(map(str, row.counts[name])), f"{name} (paper)": row.printed[name]}
    for column in table.spec.columns:
        score = row.scores[column]
        found |= {
            column: "" if score is None else repr(score.mean),
            f"{column} sd": "" if score is None or score.sd is None else repr(score.sd),
            f"{column} seeds": 0 if score is None else score.seeds,
            f"{column}{BY_SEED}": "" if score is None else by_seed_text(score),
            f"{column} (paper)": row.printed[column],
        }
        if table.spec.base is not None:
            gain, paper_gain = table.gain(row, column), table.paper_gain(row, column)
            found |= {
                f"{column} gain": "" if gain is None else repr(gain.mean),
                f"{column} gain (paper)": "" if paper_gain is None else f"{paper_gain:.6g}",
            }
    found["status"] = "quoted" if row.quoted else "run" if row.complete else "not run"
    if any(one.diverged for one in table.rows):
        found["diverged"] = NEXT.join(row.diverged)
    found["runs"] = " ".join({run.key: None for by_seed in row.runs.values() for run in by_seed.values()})
    return {name: value for name, value in found.items() if table.of_paper or not name.endswith(" (paper)")}


def by_seed_text(score: Number) -> str:
    """``1=69.5 2=69.7``: each seed's score in full."""
    return " ".join(f"{seed}={value!r}" for seed, value in score.by_seed.items())


def read_table(text: str, grid: Grid, borrowed: Mapping[str, Row] | None = None) -> Table:
    """The table that a file of `to_csv` shows, without the runs: they are in no repository, their tables are.

    Args:
        grid: of the same table. The seeds that were asked for then are taken to be all that its rows have: a row that
            lacks one of them says so.
        borrowed: rows of other tables, by the names that this one has for them.

    Raises:
        UserError: the grid names no table, or the file is not one of its.
    """
    assert grid.table is not None
    spec = table_spec(grid.config, grid.table)
    try:
        lines = pd.read_csv(StringIO(text), dtype=str, keep_default_na=False).to_dict("records")
        rows = [read_row(spec, {str(name): value for name, value in line.items()}) for line in lines]
        seeds = {seed for row in rows for score in row.scores.values() if score for seed in score.by_seed}
        rows = [
            replace(
                row, scores={name: score and Number(score.by_seed, len(seeds)) for name, score in row.scores.items()}
            )
            for row in rows
        ]
    except (ValueError, KeyError) as error:
        raise UserError(f"{grid.table}.csv is no rendered table ({error}); render it anew: make {grid.table}") from None
    metrics = {column: metric for cell in grid.cells for column, metric in cell_metrics(spec, cell).items()}
    return Table(grid.table, spec, grid, metrics, rows, [], dict(borrowed or {}))


def seeds_in(text: str) -> list[int]:
    """All seeds of a file of `to_csv`, or of Figure 3's with its column of them; ascending, none of another file."""
    lines = list(csv.DictReader(StringIO(text)))
    texts = [value for line in lines for name, value in line.items() if str(name).endswith(BY_SEED)]
    texts += [f"{line['seed']}=" for line in lines if line.get("seed")]
    return sorted({int(seed) for seed in re.findall(r"(\d+)=", " ".join(texts))})


def read_row(spec: TableSpec, line: Mapping[str, str]) -> Row:
    """One row back from its line.

    Raises:
        KeyError, ValueError: it is not what `record` writes.
    """
    scores: dict[str, Number | None] = {}
    for column in spec.columns:
        pairs = [pair.split("=") for pair in line[f"{column}{BY_SEED}"].split()]
        scores[column] = Number({int(seed): float(value) for seed, value in pairs}, len(pairs)) if pairs else None
    return Row(
        name=line["row"],
        label=line.get("label", ""),
        settings={head: (line[head], line.get(f"{head} (paper)", "")) for head in spec.rows if head != "method"},
        scores=scores,
        printed={column: line.get(f"{column} (paper)", "") for column in [*spec.columns, *COUNTS]},
        counts={name: [int(text) for text in line.get(name, "").split("-") if text] for name in COUNTS},
        runs={},
        diverged=list(filter(None, line.get("diverged", "").split(NEXT))),
    )
