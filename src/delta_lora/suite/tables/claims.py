"""The paper's comparative sentences, held against our runs."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

from delta_lora.errors import UserError
from delta_lora.suite.tables.build import Row, Table
from delta_lora.suite.tables.compare import Gain, PairedBootstrap, Verdict
from delta_lora.suite.tables.spec import ClaimSpec

WORKERS = 2  # runs scored at a time; METEOR takes up to two gigabytes for each


@dataclass(frozen=True)
class Comparison:
    """Two rows in one column.

    text_gain: as the paper's sentence prints it; None where it prints none. table_gain: from the paper's
    table. gain: ours; None where a run is missing. All gains are positive where ``better`` is better.
    """

    better: Row
    worse: Row
    column: str
    text_gain: float | None
    table_gain: float
    gain: Gain | None

    @property
    def verdict(self) -> Verdict:
        """Ours, or "not run"."""
        return "not run" if self.gain is None else self.gain.verdict


@dataclass(frozen=True)
class Claim:
    """One sentence of the paper and the comparisons that it makes."""

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
        UserError: a claim names a row or column that the paper's table has not.
    """
    named = {name for spec in table.spec.claims for name in (*spec.better, *spec.worse)}
    columns = [runs for row in table.rows if row.name in named for runs in row.runs.values()]
    runs = {run.key: run for by_seed in columns for run in by_seed.values()}
    with ThreadPoolExecutor(WORKERS) as pool:  # scoring is mostly waiting for METEOR's Java process
        list(pool.map(bootstrap.scores, runs.values()))
    return [check_claim(table, spec, bootstrap) for spec in table.spec.claims]


def check_claim(table: Table, spec: ClaimSpec, bootstrap: PairedBootstrap) -> Claim:
    """All comparisons of one sentence."""
    rows = {row.name: row for row in table.rows if any(row.printed.values())}
    for name in (*spec.better, *spec.worse):
        if name not in rows:
            raise UserError(f"a claim names the row {name!r}; the paper's table has {', '.join(rows)}")
    for column in spec.gains:
        if column not in table.metrics:
            raise UserError(f"a claim names the column {column!r}; it can name {', '.join(table.metrics)}")
    comparisons = []
    for better, worse in product((rows[name] for name in spec.better), (rows[name] for name in spec.worse)):
        for column, text_gain in spec.gains.items():
            sign = table.spec.sign(column)
            comparisons.append(
                Comparison(
                    better=better,
                    worse=worse,
                    column=column,
                    text_gain=text_gain,
                    table_gain=sign * (float(better.printed[column]) - float(worse.printed[column])),
                    gain=bootstrap.gain(better.runs[column], worse.runs[column], table.metrics[column], sign),
                )
            )
    return Claim(spec.says, comparisons)
