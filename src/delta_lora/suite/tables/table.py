"""A table in numbers: rows of scores over seeds, each beside the paper's."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from statistics import mean, stdev

from scipy import stats

from delta_lora.metrics.epochs import CROSS_FITTED, LAST
from delta_lora.suite.config.cell import is_number
from delta_lora.suite.config.grid import Grid, compose_grid
from delta_lora.suite.records.records import Run
from delta_lora.suite.tables.spec import TableSpec

NOT_PRINTED = "-"  # how the paper writes a setting that a row does not have
QUOTED = "-quoted"  # ends the names of rows that the paper quotes
FEWEST_FOR_A_BAND = 3  # seeds
PAPERS_TEXT = "microsoft"  # E2E's, spaced as the scripts have it that the paper's numbers come from (docs/fidelity.md)
# Overrides that a table's face leaves out: it names them elsewhere, or they change no number.
NOT_OF_THE_NUMBERS = ("table=", "scale=", "seed=", "results_dir=", "cache_dir=", "data_dir=", "logger", "hydra")
CHOICES = (*NOT_OF_THE_NUMBERS, "method=", "task=")  # those that make no other cells than a table's own
COUNTS = ("trainable", "extra_updatable")


@dataclass(frozen=True)
class Number:
    """A score over seeds: ``by_seed``, at least one of them, of ``asked`` that were asked for."""

    by_seed: dict[int, float]
    asked: int

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return mean(self.by_seed.values())

    @property
    def sd(self) -> float | None:
        """The sample standard deviation; None with one seed."""
        return stdev(self.by_seed.values()) if self.seeds > 1 else None

    @property
    def seeds(self) -> int:
        """How many there are."""
        return len(self.by_seed)

    def of(self, seeds: Iterable[int]) -> "Number":
        """The same of some of its seeds."""
        return Number({seed: self.by_seed[seed] for seed in sorted(seeds)}, self.asked)

    @property
    def count(self) -> str:
        """`` (1 of 3)`` where a seed that was asked for is missing; "" where none is."""
        return "" if self.seeds == self.asked else f" ({self.seeds} of {self.asked})"

    @property
    def half(self) -> float | None:
        """Half the width of the mean's 95 % interval over seeds, on these test items; None below three seeds."""
        if self.seeds < FEWEST_FOR_A_BAND:
            return None
        values = list(self.by_seed.values())
        return float(stats.t.isf(0.025, self.seeds - 1)) * stdev(values) / math.sqrt(self.seeds)


@dataclass(frozen=True)
class Row:
    """One line of a table.

    name: the paper's words for the row; where the paper has no such row, ours.
    label: the method's, in tables whose rows are methods.
    settings: further columns of ``spec.rows`` → (ours, the paper's) as text, "" where a side has no such row.
    scores: column → our number, None where it has not been run.
    printed: column → the paper's text, "" where it has none.
    counts: of `COUNTS` → its different values among the row's runs, ascending.
    runs: column → its runs by seed; none in a table that was read from a file.
    diverged: those of its runs whose training came to nothing, each in words.
    """

    name: str
    label: str
    settings: dict[str, tuple[str, str]]
    scores: dict[str, Number | None]
    printed: dict[str, str]
    counts: dict[str, list[int]]
    runs: dict[str, dict[int, Run]]
    diverged: list[str] = field(default_factory=list)

    @property
    def quoted(self) -> bool:
        """Whether the paper itself quotes this row from elsewhere, so that there is nothing to run."""
        return self.name.endswith(QUOTED)

    @property
    def complete(self) -> bool:
        """Whether every column has a score."""
        return all(score is not None for score in self.scores.values())


@dataclass(frozen=True)
class Table:
    """A table, ready to be shown.

    name: of its file in ``configs/table``, and of those that are written of it.
    metrics: column with scores → the metric's name in the records (the average has none).
    problems: records that were left out, and why. borrowed: the rows of other tables that it names, by those names.
    """

    name: str
    spec: TableSpec
    grid: Grid
    metrics: dict[str, str]
    rows: list[Row]
    problems: list[str]
    borrowed: dict[str, Row] = field(default_factory=dict)

    @property
    def base(self) -> Row | None:
        """The row that the others' gains are over (``spec.base``); None where there is none."""
        rows = {row.name: row for row in self.rows} | self.borrowed
        return None if self.spec.base is None else rows.get(self.spec.base)

    def gain(self, row: Row, column: str) -> Number | None:
        """Ours over `base`, on the seeds that both have; positive is better. None for the base itself."""
        base = self.base
        ours, theirs = row.scores[column], None if base is None or base is row else base.scores.get(column)
        if ours is None or theirs is None:
            return None
        sign, others = self.spec.sign(column), theirs.by_seed
        by_seed = {seed: sign * (value - others[seed]) for seed, value in ours.by_seed.items() if seed in others}
        return Number(by_seed, ours.asked) if by_seed else None

    def paper_gain(self, row: Row, column: str) -> float | None:
        """The paper's over `base`, from its printed numbers."""
        base = self.base
        if base is None or base is row or row.quoted or not (row.printed[column] and base.printed.get(column)):
            return None
        return self.spec.sign(column) * (float(row.printed[column]) - float(base.printed[column]))

    @property
    def heading(self) -> str:
        """What it is called: ``Table 1``; where the paper has no such table, its name."""
        return self.name if self.spec.number is None else f"Table {self.spec.number}"

    @property
    def of_paper(self) -> bool:
        """Whether the paper's numbers stand beside ours."""
        return self.spec.number is not None

    @property
    def swept(self) -> str | None:
        """The setting of numbers that alone tells the rows apart, which a curve can be drawn over; None: none."""
        if len(self.spec.rows) != 1 or "method" in self.spec.rows:
            return None
        (head,) = self.spec.rows
        return head if all(is_numeral(text) for row in self.rows for text in row.settings[head] if text) else None

    def judged(self, column: str) -> str:
        """The metric that verdicts are on: cross-fitted, where the best epoch is chosen on the scored items (GLUE)."""
        name = self.metrics[column]
        runs = [run for row in self.rows for run in row.runs.get(column, {}).values()]
        said = [run.metrics.get(f"{name}{choice}") for run in runs for choice in (LAST, CROSS_FITTED)]
        fitted = said != [] and all(is_number(score) for score in said)
        return f"{name}{CROSS_FITTED}" if fitted else name

    @property
    def runs(self) -> list[Run]:
        """All runs that stand in it, by key."""
        found = {run.key: run for row in self.rows for runs in row.runs.values() for run in runs.values()}
        return [found[key] for key in sorted(found)]

    @property
    def unfinished(self) -> bool:
        """Whether a cell has no run; of a table from a file, which knows no runs, whether a score lacks one."""
        if self.runs:
            return len(self.runs) < self.cells
        scores = [score for row in self.rows if not row.quoted for score in row.scores.values()]
        return any(score is None or score.count for score in scores)

    @property
    def cells(self) -> int:
        """How many runs it has when it is complete."""
        return len({cell.key for cell in self.grid.cells})

    @property
    def reproduces(self) -> bool:
        """Whether a sentence that holds is one of the paper's, reproduced."""
        return self.of_paper and self.comparable

    @property
    def comparable(self) -> bool:
        """Whether ours may be held against the paper: its models, on all of its data."""
        return comparable(self.grid)


def shared_seeds(rows: Iterable[Row], column: str) -> set[int]:
    """The seeds on which a column's rows can be compared: those of every row that has a score in it."""
    seeds = [set(score.by_seed) for row in rows if (score := row.scores[column]) is not None]
    return set.intersection(*seeds) if seeds else set()


def shared_means(rows: Sequence[Row], column: str) -> dict[int, float]:
    """The rows with a score in a column, by their places: means over `shared_seeds`; none without such a seed."""
    seeds = shared_seeds(rows, column)
    scored = {i: score for i, row in enumerate(rows) if (score := row.scores[column]) is not None}
    return {i: mean(score.by_seed[seed] for seed in seeds) for i, score in scored.items() if seeds}


def comparable(grid: Grid) -> bool:
    """Whether a grid's runs use the paper's models and settings, and all of its data: the test set's, in its text."""
    return not overridden(grid) and all(
        cell.config.scale.comparable
        and cell.config.task.source != "generated"
        and cell.config.task.get("split", "test") == "test"
        and cell.config.task.get("text", PAPERS_TEXT) == PAPERS_TEXT
        and not any(value for name, value in cell.config.task.items() if str(name).startswith("max_"))
        for cell in grid.cells
    )


def overridden(grid: Grid) -> list[str]:
    """The overrides that make other cells than a table's own: another model, fewer steps. Not a choice among them."""
    more = [given for given in grid.overrides if not given.startswith(CHOICES)]
    own = own_keys(tuple(given for given in grid.overrides if given not in more)) if more else frozenset()
    return more if more and not {cell.key for cell in grid.cells} <= own else []


@cache
def own_keys(overrides: tuple[str, ...]) -> frozenset[str]:
    """The keys of the cells that overrides compose."""
    return frozenset(cell.key for cell in compose_grid(overrides).cells)


def is_numeral(text: str) -> bool:
    """Whether a setting's text is a number: ``2``, ``0.5``, ``2e-4``."""
    try:
        float(text)
    except ValueError:
        return False
    return True
