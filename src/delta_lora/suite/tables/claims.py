"""Comparative sentences, the paper's and those of a table of one's own, held against our runs."""

from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from statistics import mean
from typing import Literal

from delta_lora.errors import UserError
from delta_lora.suite.config.grid import compose_grid
from delta_lora.suite.tables.build import row_names
from delta_lora.suite.tables.compare import PairedBootstrap
from delta_lora.suite.tables.gain import Gain, Region
from delta_lora.suite.tables.spec import ClaimSpec
from delta_lora.suite.tables.table import COUNTS, Row, Table
from delta_lora.suite.tables.verdicts import Judged, Verdict, judge

WORKERS = 2  # runs scored at a time; METEOR takes up to two gigabytes for each


@dataclass(frozen=True)
class Comparison:
    """Two rows in one column, or the means of several.

    text_gain: as the paper's sentence prints it; None where it prints none. table_gain: from the paper's
    table; None where that lacks a row. gain: ours; None where a run is missing. region: where the sentence says that
    it lies. All gains are positive where ``better`` is better.
    """

    better: list[Row]
    worse: list[Row]
    column: str
    text_gain: float | None
    table_gain: float | None
    gain: Gain | None
    region: Region
    verdict: Verdict

    @property
    def of_size(self) -> Literal["yes", "no", "undecided"] | None:
        """Whether our gain is as large as the paper's: no, where the interval lacks that; yes, where it lacks 0 alone.

        None where a gain is missing, or the seeds are too few to say.
        """
        paper = self.table_gain if self.text_gain is None else self.text_gain
        if self.gain is None or paper is None or self.verdict.outcome in ("few runs", "not run"):
            return None
        low, high = self.gain.interval
        if not low <= paper <= high:
            return "no"
        return "undecided" if low <= 0 <= high else "yes"


@dataclass(frozen=True)
class Claim:
    """One sentence, the comparisons that it makes, and the verdict on it.

    ours: what our runs say; ``verdict`` is the same, except where the paper's own table does not bear the sentence out.
    """

    says: str
    comparisons: list[Comparison]
    ours: Verdict
    verdict: Verdict

    def text(self, comparable: bool) -> str:
        """The verdict in words; ``comparable``: whether ours may be held against the paper."""
        said, ours = (verdict.text(comparable) for verdict in (self.verdict, self.ours))
        return said if said == ours else f"{said} (ours: {ours})"


def check_claims(table: Table, bootstrap: PairedBootstrap) -> list[Claim]:
    """Hold every claim of a table's configuration against its runs.

    Raises:
        UserError: a claim names a row or column missing from the table.
    """
    named = {name for spec in table.spec.claims for name in (*spec.better, *spec.worse)}
    rows = claimed_rows(table, table.spec.named)  # the base's name is checked, too
    runs = {run.key: run for name in named for by_seed in rows[name].runs.values() for run in by_seed.values()}
    known = table.spec.metrics or [*table.spec.tasks]  # also of tasks that the overrides left out
    for column in {column for spec in table.spec.claims for column in spec.gains} - set(known):
        raise UserError(f"a claim names the column {column!r}; it can name {', '.join(known)}")
    with ThreadPoolExecutor(WORKERS) as pool:  # scoring is mostly waiting for METEOR's Java process
        list(pool.map(bootstrap.scores, runs.values()))
    return [check_claim(table, spec, rows, bootstrap) for spec in table.spec.claims]


def claimed_rows(table: Table, named: Set[str]) -> dict[str, Row]:
    """The rows that claims name, by name. One that the overrides left out of the table is a row that was not run.

    Raises:
        UserError: the table has no such row, whatever the overrides.
    """
    rows = {row.name: row for row in table.rows if not table.of_paper or any(row.printed.values())} | table.borrowed
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
        rows[name] = Row(name, name, {}, {}, nothing, {}, {column: {} for column in table.spec.columns})
    return rows


def check_claim(table: Table, spec: ClaimSpec, rows: Mapping[str, Row], bootstrap: PairedBootstrap) -> Claim:
    """All comparisons of one sentence, and the verdicts."""
    sides = list(compared(spec, rows))
    judged, printed = [], []
    for better, worse, column in sides:
        sign = table.spec.sign(column)
        left, right = ([row.runs[column] for row in side] for side in (better, worse))
        printed.append(printed_gain(better, worse, column, sign))
        gain = bootstrap.gain(left, right, table.judged(column), sign) if column in table.metrics else None
        judged.append(Judged(gain, region(spec, column), printed[-1]))
    ours, verdicts = judge(judged, spec.quantifier)
    comparisons = [
        Comparison(*side, spec.gains[side[2]], one.paper, one.gain, one.region, verdict)
        for side, one, verdict in zip(sides, judged, verdicts, strict=True)
    ]
    borne_out = borne_out_by(spec, [(column, paper) for (*_, column), paper in zip(sides, printed, strict=True)])
    return Claim(spec.says, comparisons, ours, Verdict("not borne out") if borne_out is False else ours)


def compared(spec: ClaimSpec, rows: Mapping[str, Row]) -> Iterator[tuple[list[Row], list[Row], str]]:
    """What the sentence compares: each row with each in each column; of a contrast all of them at once."""
    better, worse = ([rows[name] for name in names] for names in (spec.better, spec.worse))
    one_by_one = [([one], [other]) for one, other in product(better, worse)]
    pairs = [(better, worse)] if spec.kind == "contrast" else one_by_one
    for left, right in pairs:
        for column in spec.gains:
            yield left, right, column


def region(spec: ClaimSpec, column: str) -> Region:
    """Where the sentence says that the gain lies."""
    if spec.kind == "noninferior":
        return Region(low=-spec.margin[column])
    if spec.kind == "equivalent":
        return Region(-spec.margin[column], spec.margin[column])
    return Region(0, spec.margin[column]) if spec.size == "slight" else Region(low=0)


def printed_gain(better: Sequence[Row], worse: Sequence[Row], column: str, sign: int) -> float | None:
    """The paper's gain from its table; None where that lacks a row."""
    printed = [[row.printed[column] for row in side] for side in (better, worse)]
    if not all(text for side in printed for text in side):
        return None
    left, right = (mean(float(text) for text in side) for side in printed)
    return round(sign * (left - right), 6)  # 70.84 - 69.60 is 1.24, not 1.2400000000000091


def borne_out_by(spec: ClaimSpec, gains: Sequence[tuple[str, float | None]]) -> bool | None:
    """Whether the paper's own table says what its sentence does, by (column, gain); None where it lacks numbers."""
    if any(gain is None for _, gain in gains):
        return None
    held = [
        region(spec, column).holds(gain) and (spec.size != "significant" or gain >= spec.margin.get(column, 0))
        for column, gain in gains
        if gain is not None
    ]
    return all(held) if spec.quantifier == "all" else any(held)
