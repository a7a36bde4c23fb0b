"""From run records to a table, each cell ours beside the paper's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from delta_lora import paper
from delta_lora.errors import UserError
from delta_lora.suite.config.cell import is_number
from delta_lora.suite.config.grid import Grid, GridCell
from delta_lora.suite.records.records import Run
from delta_lora.suite.tables.spec import TableSpec, table_spec

NOT_PRINTED = "-"  # how the paper writes a setting that a row has not
QUOTED = "-quoted"  # ends the names of rows that the paper quotes
COUNTS = ("trainable", "extra_updatable")
LONGEST = 10**9  # seconds that a run can say it took: 30 years
MOST_PARAMETERS = 10**15


@dataclass(frozen=True)
class Number:
    """A score over seeds: mean, sample standard deviation (None with one seed), seeds found and asked for."""

    mean: float
    sd: float | None
    seeds: int
    asked: int


@dataclass(frozen=True)
class Row:
    """One line of a table.

    name: the paper's words for the row; where the paper has no such row, ours.
    label: the method's, in tables whose rows are methods.
    settings: further columns of ``spec.rows`` → (ours, the paper's) as text, "" where a side has no such row.
    scores: column → our number, None where it has not been run.
    printed: column → the paper's text, "" where it has none.
    runs: column → its runs by seed.
    """

    name: str
    label: str
    settings: dict[str, tuple[str, str]]
    scores: dict[str, Number | None]
    printed: dict[str, str]
    runs: dict[str, dict[int, Run]]

    @property
    def quoted(self) -> bool:
        """Whether the paper itself quotes this row from elsewhere, so that there is nothing to run."""
        return self.name.endswith(QUOTED)

    def counts(self, name: str) -> list[int]:
        """The different values of a parameter count (``trainable``, …) among the row's runs, ascending."""
        return sorted({run.counts[name] for by_seed in self.runs.values() for run in by_seed.values()})


@dataclass(frozen=True)
class Table:
    """A table, ready to be rendered.

    metrics: column with scores → the metric's name in the records (the average has none).
    problems: records that were left out, and why.
    """

    spec: TableSpec
    grid: Grid
    metrics: dict[str, str]
    rows: list[Row]
    problems: list[str]

    @property
    def runs(self) -> list[Run]:
        """All runs that stand in it, by key."""
        found = {run.key: run for row in self.rows for runs in row.runs.values() for run in runs.values()}
        return [found[key] for key in sorted(found)]

    @property
    def cells(self) -> int:
        """How many runs it has when it is complete."""
        return len({cell.key for cell in self.grid.cells})

    @property
    def comparable(self) -> bool:
        """Whether ours may be held against the paper: its models, on all of its data."""
        return comparable(self.grid)


def comparable(grid: Grid) -> bool:
    """Whether a grid's runs use the paper's models, and all of its data."""
    return all(
        cell.config.scale.comparable
        and cell.config.task.source != "generated"
        and not any(value for name, value in cell.config.task.items() if str(name).startswith("max_"))
        for cell in grid.cells
    )


def build_table(grid: Grid, runs: Sequence[Run]) -> Table:
    """Put the finished runs of a grid's cells into the paper's table.

    A run stands in the table only if its key is that of a cell as composed now, so a record of another
    configuration never does. A record without one of its cell's metrics is left out, and reported in
    ``problems``.

    Raises:
        UserError: the grid has two cells for one place in the table.
    """
    spec = table_spec(grid.config)
    printed = paper.table(spec.number).to_dict("records")
    lines = {" ".join(line[head] for head in spec.rows): line for line in printed}
    names = row_names(spec, printed, grid)
    cells: dict[str, list[GridCell]] = {name: [] for name in [*lines, *names]}
    for cell, name in zip(grid.cells, names, strict=True):
        cells[name].append(cell)
    by_key = {run.key: run for run in runs}
    problems: dict[str, None] = {}
    rows = []
    for name, members in cells.items():
        check_places(name, members)
        found: dict[str, dict[int, Run]] = {column: {} for column in spec.columns if column != spec.average}
        for cell in members:
            run = by_key.get(cell.key)
            wrong = [] if run is None else missing(spec, cell, run)
            if run is not None and wrong:
                problems[f"{run.path / 'run.json'} is left out: it lacks {', '.join(wrong)}"] = None
            elif run is not None:
                for column in cell_metrics(spec, cell):
                    found[column][cell.config.seed] = run
        rows.append(make_row(spec, name, members, lines.get(name, {}), found))
    metrics = {column: metric for cell in grid.cells for column, metric in cell_metrics(spec, cell).items()}
    return Table(spec, grid, metrics, rows, list(problems))


def check_places(name: str, cells: Sequence[GridCell]) -> None:
    """No two cells of a row may want the same place.

    Raises:
        UserError: they do, since the sweep varies something that tells no rows apart.
    """
    places = [(cell.config.task.name, cell.config.seed) for cell in cells]
    if len(set(places)) < len(places):
        raise UserError(
            f"row {name!r} would hold several runs of one seed: the overrides sweep over something that this "
            "table does not tell rows apart by; sweep over its own parameters only"
        )


def row_names(spec: TableSpec, lines: Sequence[Mapping[str, str]], grid: Grid) -> list[str]:
    """For each cell the paper's words for its row.

    Methods match by name. Settings (λ, K, learning rate) match by value; at a scale that is not the paper's,
    where they shrink with the run, a sweep of as many values as the paper's is matched in ascending order.
    """
    words: list[dict[Any, str]] = []
    for head, path in spec.rows.items():
        ours = {OmegaConf.select(cell.config, path) for cell in grid.cells}
        if head == "method":
            words.append({value: str(value) for value in ours})
            continue
        theirs = sorted({line[head] for line in lines} - {NOT_PRINTED}, key=float)
        values = sorted(ours - {None})
        if len(values) == len(theirs) and not grid.config.scale.comparable:
            match = dict(zip(values, theirs, strict=True))
        else:
            match = {value: next((text for text in theirs if float(text) == value), plain(value)) for value in values}
        words.append({**match, None: NOT_PRINTED})
    return [
        " ".join(
            word[OmegaConf.select(cell.config, path)] for word, path in zip(words, spec.rows.values(), strict=True)
        )
        for cell in grid.cells
    ]


def plain(value: float | None) -> str:
    """A setting as the paper writes it: ``2``, ``0.5``, ``2e-4``."""
    if value is None:
        return NOT_PRINTED
    return np.format_float_scientific(value, trim="-", exp_digits=1) if 0 < value < 0.01 else f"{value:g}"


def cell_metrics(spec: TableSpec, cell: GridCell) -> dict[str, str]:
    """The columns that a cell's run fills, each with the name of the metric in the run's record."""
    if spec.metrics:
        return {name: name for name in spec.metrics}
    task = cell.config.task
    return {column: task.metrics[0] for column, name in spec.tasks.items() if name == task.name}


def missing(spec: TableSpec, cell: GridCell, run: Run) -> list[str]:
    """What the table needs of a run and its record has not: scores, counts, the device and the versions."""
    scores = [name for name in cell_metrics(spec, cell).values() if not is_score(run.metrics.get(name))]
    return scores + [name for name in COUNTS if not is_count(run.counts.get(name))] + missing_facts(run)


def missing_facts(run: Run) -> list[str]:
    """What the line on where numbers come from needs of a run, and its record has not."""
    seconds, environment = run.train.get("wall_seconds"), run.environment
    lacking = [] if is_number(seconds) and 0 <= seconds < LONGEST else ["wall_seconds"]
    kinds: dict[str, Any] = {"device": str, "versions": dict, "git_commit": str | None}
    return lacking + [name for name, kind in kinds.items() if not isinstance(environment.get(name), kind)]


def is_score(value: Any) -> bool:
    """A number that a metric of the tables can give: −100 to 100, also for TER of at most 64 tokens."""
    return is_number(value) and abs(value) <= 100


def is_count(value: Any) -> bool:
    """A number of parameters."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST_PARAMETERS


def make_row(
    spec: TableSpec,
    name: str,
    cells: Sequence[GridCell],
    line: Mapping[str, str],
    runs: dict[str, dict[int, Run]],
) -> Row:
    """One row from its cells, the paper's line and the runs found (column → seed → run)."""
    asked = len({cell.config.seed for cell in cells})
    metrics = {column: metric for cell in cells for column, metric in cell_metrics(spec, cell).items()}
    values = {
        column: {seed: run.metrics[metrics[column]] for seed, run in sorted(by_seed.items())}
        for column, by_seed in runs.items()
    }
    if spec.average:
        whole = set.intersection(*(set(by_seed) for by_seed in values.values()))
        values[spec.average] = {seed: mean(by_seed[seed] for by_seed in values.values()) for seed in sorted(whole)}
    if cells:
        label = cells[0].config.method.label
    else:  # the paper's labels alone do not tell its fine-tuning rows apart
        label = line.get("label", "") if name.endswith(QUOTED) else f"{line.get('label')} ({name})"
    return Row(
        name=name,
        label=label,
        settings={
            head: (plain(OmegaConf.select(cells[0].config, path)) if cells else "", line.get(head, ""))
            for head, path in spec.rows.items()
            if head != "method"
        },
        scores={column: number(list(values[column].values()), asked) for column in spec.columns},
        printed={column: line.get(column, "") for column in [*spec.columns, *COUNTS]},
        runs=runs,
    )


def number(values: Sequence[float], asked: int) -> Number | None:
    """Mean and sample standard deviation; None without a value."""
    if not values:
        return None
    return Number(mean(values), stdev(values) if len(values) > 1 else None, len(values), asked)
