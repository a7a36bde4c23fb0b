"""Comparative sentences, the paper's and those of a table of one's own, held against our runs."""

from collections.abc import Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

from delta_lora.errors import UserError
from delta_lora.suite.config.grid import compose_grid
from delta_lora.suite.tables.build import row_names
from delta_lora.suite.tables.compare import Gain, PairedBootstrap, Verdict
from delta_lora.suite.tables.spec import ClaimSpec
from delta_lora.suite.tables.table import COUNTS, Row, Table

WORKERS = 2  # runs scored at a time; METEOR takes up to two gigabytes for each


@dataclass(frozen=True)
class Comparison:
    """Two rows in one column.

    text_gain: as the paper's sentence prints it; None where it prints none. table_gain: from the paper's
    table; None where that lacks a row. gain: ours; None where a run is missing. All gains are positive where
    ``better`` is better.
    """

    better: Row
    worse: Row
    column: str
    text_gain: float | None
    table_gain: float | None
    gain: Gain | None

    @property
    def verdict(self) -> Verdict:
        """Ours, or "not run"."""
        return "not run" if self.gain is None else self.gain.verdict


@dataclass(frozen=True)
class Claim:
    """One sentence and the comparisons that it makes."""

    says: str
    comparisons: list[Comparison]

    def count(self, verdict: Verdict) -> int:
        """How many of its comparisons ended so."""
        return sum(comparison.verdict == verdict for comparison in self.comparisons)

    @property
    def verdict(self) -> Verdict:
        """Of the sentence as a whole."""
        return overall([comparison.verdict for comparison in self.comparisons])


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """A sentence holds if all that it compares does; it fails with the first that does not, run or not run."""
    order: tuple[Verdict, ...] = ("not reproduced", "not run", "within noise")
    return next((verdict for verdict in order if verdict in verdicts), "reproduced")


def check_claims(table: Table, bootstrap: PairedBootstrap) -> list[Claim]:
    """Hold every claim of a table's configuration against its runs.

    Raises:
        UserError: a claim names a row or column missing from the table.
    """
    named = {name for spec in table.spec.claims for name in (*spec.better, *spec.worse)}
    columns = [runs for row in table.rows if row.name in named for runs in row.runs.values()]
    runs = {run.key: run for by_seed in columns for run in by_seed.values()}
    rows = claimed_rows(table, named)
    for column in {column for spec in table.spec.claims for column in spec.gains} - set(table.metrics):
        raise UserError(f"a claim names the column {column!r}; it can name {', '.join(table.metrics)}")
    with ThreadPoolExecutor(WORKERS) as pool:  # scoring is mostly waiting for METEOR's Java process
        list(pool.map(bootstrap.scores, runs.values()))
    return [check_claim(table, spec, rows, bootstrap) for spec in table.spec.claims]


def claimed_rows(table: Table, named: Set[str]) -> dict[str, Row]:
    """The rows that claims name, by name. One that the overrides left out of the table is a row that was not run.

    Raises:
        UserError: the table has no such row, whatever the overrides.
    """
    rows = {row.name: row for row in table.rows if not table.of_paper or any(row.printed.values())}
    absent = sorted(named - rows.keys())
    if absent and not table.of_paper:
        whole = compose_grid([word for word in table.grid.overrides if word.startswith(("table=", "scale="))])
        known = [*rows, *(name for name in dict.fromkeys(row_names(table.spec, [], whole)) if name not in rows)]
    else:
        known = list(rows)
    for name in absent:
        if name not in known:
            whose = "the paper's table" if table.of_paper else "the table"
            raise UserError(f"a claim names the row {name!r}; {whose} has {', '.join(known)}")
        nothing = dict.fromkeys([*table.spec.columns, *COUNTS], "")
        rows[name] = Row(name, name, {}, {}, nothing, {}, {column: {} for column in table.metrics})
    return rows


def check_claim(table: Table, spec: ClaimSpec, rows: Mapping[str, Row], bootstrap: PairedBootstrap) -> Claim:
    """All comparisons of one sentence."""
    comparisons = []
    for better, worse in product((rows[name] for name in spec.better), (rows[name] for name in spec.worse)):
        for column, text_gain in spec.gains.items():
            sign = table.spec.sign(column)
            printed = better.printed[column], worse.printed[column]
            comparisons.append(
                Comparison(
                    better=better,
                    worse=worse,
                    column=column,
                    text_gain=text_gain,
                    table_gain=sign * (float(printed[0]) - float(printed[1])) if all(printed) else None,
                    gain=bootstrap.gain(better.runs[column], worse.runs[column], table.judged(column), sign),
                )
            )
    return Claim(spec.says, comparisons)
