"""One view of a table: its cells, its face, its shape and its claims as text, built once; every output formats it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from delta_lora.suite.pages.claim_texts import ClaimView, claim_view
from delta_lora.suite.pages.epochs import epoch_texts
from delta_lora.suite.pages.provenance import diverged_runs, facts, models, notes, to_train, warning
from delta_lora.suite.pages.texts import Texts
from delta_lora.suite.pages.words import NONE, NOT_RUN, row_title, setting_head
from delta_lora.suite.tables.choice import said
from delta_lora.suite.tables.claims import Claim
from delta_lora.suite.tables.shape import Shape, best, decimals, shapes
from delta_lora.suite.tables.table import COUNTS, NOT_PRINTED, Number, Row, Table

PARAMETERS = {"trainable": "Trainable", "extra_updatable": "Extra updatable"}
MEBI = 2**20
SHAPE_HEADS = ["Column", "Best of ours", "Best of the paper's", "Spearman's ρ", "5 % critical value", "Rows"]


@dataclass(frozen=True)
class Column:
    """A column's heading, with an arrow towards the better scores, and whether it has scores."""

    head: str
    score: bool = False


@dataclass(frozen=True)
class Entry:
    """A cell: ours, and the paper's ("" where it has none); the best of a column are marked.

    value: ours in full; None where there is none, or it is no score. difference: ours less the paper's, rounded as
    shown; "" where ours may not be held against it. gain, paper_gain: over the table's base, positive where better.
    change: what the difference is; without one, what our gain is, "" where the seeds leave that open.
    """

    text: str
    paper: str = ""
    value: float | None = None
    best: bool = False
    paper_best: bool = False
    difference: str = ""
    gain: str = ""
    paper_gain: str = ""
    change: Literal["better", "worse", "same", ""] = ""

    @property
    def gains(self) -> str:
        """Both gains in a line: ``+4.09 / +1.24``, ours alone where the paper has none."""
        return f"{self.gain or NONE} / {self.paper_gain}" if self.paper_gain else self.gain


@dataclass(frozen=True)
class TableView:
    """What is shown of a table.

    name: of its files. heading: ``Table 1``. title: with what it is about, and the models. warning: "" where ours may
    be held against the paper. lines: the cells, row by row, under ``columns``. diverged: of the notes, those that
    have to stand wherever the scores do. to_train: the note with the command for the cells without a run, "" where
    each has one. parts: of a score, which stand beside each other; ``coloured``: the one that says what is better.
    base: the row that gains are over, "" without one. of_paper: the paper's numbers stand beside ours. curves: there
    is a picture of it. epochs, shape: None where it has none.
    """

    name: str
    heading: str
    title: str
    warning: str
    columns: list[Column]
    lines: list[list[Entry]]
    notes: list[str]
    diverged: list[str]
    to_train: str
    facts: list[str]
    parts: list[str]
    coloured: str
    base: str
    of_paper: bool
    curves: bool
    epochs: Texts | None
    shape: Texts | None
    claims: list[ClaimView]

    def pairs(self, line: list[Entry]) -> list[tuple[Column, Entry]]:
        """A line's cells, each with its column."""
        return list(zip(self.columns, line, strict=True))

    @property
    def texts(self) -> str:
        """Ours alone, for where there is neither HTML nor a terminal of any width."""
        lines = [[column.head for column in self.columns], *([entry.text for entry in line] for line in self.lines)]
        return "\n".join([self.title, *(" | ".join(line) for line in lines), *self.diverged])


def table_view(table: Table, claims: Sequence[Claim] = ()) -> TableView:
    """A table's view, from its numbers in memory."""
    gains = [] if table.base is None else ["gain", "paper_gain"] if table.of_paper else ["gain"]
    against = ["difference"] if table.reproduces else []
    diverged = diverged_runs(table)
    missing = to_train(table.grid) if table.unfinished else ""
    return TableView(
        name=table.name,
        heading=table.heading,
        title=f"{table.heading}: {table.spec.title}, {', '.join(models(table.grid))}",
        warning=warning(table.grid, table.of_paper),
        columns=columns(table),
        lines=entries(table),
        notes=[*notes(table, diverged), *([missing] if missing else []), *said(table)],
        diverged=diverged,
        to_train=missing,
        facts=facts(table.grid, table.runs),
        parts=["text", *(["paper", *against] if table.of_paper else []), *gains],
        coloured="difference" if against else "gain",
        base="" if table.base is None else row_title(table, table.base),
        of_paper=table.of_paper,
        curves=table.swept is not None,
        epochs=epoch_texts(table),
        shape=shape_texts(table, found) if table.spec.shape and (found := shapes(table)) else None,
        claims=[claim_view(table, claim) for claim in claims],
    )


def columns(table: Table) -> list[Column]:
    """Labels, settings, parameter counts, scores."""
    labels = ["Method"] if "method" in table.spec.rows else []
    settings = [setting_head(head) for head in table.spec.rows if head != "method"]
    parameters = list(PARAMETERS.values()) if table.spec.parameters else []
    scores = [f"{column} {'↑' if table.spec.sign(column) == 1 else '↓'}" for column in table.spec.columns]
    return [*(Column(head) for head in (*labels, *settings, *parameters)), *(Column(head, True) for head in scores)]


def entries(table: Table) -> list[list[Entry]]:
    """The cells, row by row, under `columns`."""
    ours = {column: best(table, column, ours=True) for column in table.spec.columns}
    paper = {column: best(table, column, ours=False) for column in table.spec.columns}
    lines = []
    for row in table.rows:
        label = f"{row.label} (quoted from Hu et al. 2022)" if row.quoted else row.label
        line = [Entry(label)] if "method" in table.spec.rows else []
        line += [
            Entry(dash(mine or NOT_RUN), "" if mine == printed else dash(printed))
            for mine, printed in row.settings.values()
        ]
        if table.spec.parameters:
            line += [count_entry(table, row, name) for name in COUNTS]
        for column in table.spec.columns:
            line.append(score_entry(table, row, column, (row.name in ours[column], row.name in paper[column])))
        lines.append(line)
    return lines


def score_entry(table: Table, row: Row, column: str, is_best: tuple[bool, bool]) -> Entry:
    """A score beside the paper's; ``is_best``: ours, the paper's."""
    score, printed, digits = row.scores[column], row.printed[column], decimals(table, column)
    ours = table.gain(row, column)
    gains = [None if ours is None else ours.mean, table.paper_gain(row, column)]
    gain, paper_gain = ("" if value is None else f"{round(value, digits) + 0.0:+.{digits}f}" for value in gains)
    if score is None:
        return Entry(NONE if row.quoted else NOT_RUN, printed, None, *is_best, paper_gain=paper_gain)
    difference = f"{score.mean - float(printed):+.{digits}f}" if printed and table.reproduces else ""
    change: Literal["better", "worse", "same", ""] = ""
    if difference or (ours is not None and ours.half is not None and abs(ours.mean) > ours.half):
        better = float(difference) * table.spec.sign(column) if difference else float(gain)
        change = "better" if better > 0 else "worse" if better < 0 else "same"
    text = score_text(score, digits)
    return Entry(text, printed, score.mean, *is_best, difference, gain, paper_gain, change)


def dash(text: str) -> str:
    """A setting that a row does not have, as a dash."""
    return NONE if text == NOT_PRINTED else text


def count_entry(table: Table, row: Row, name: str) -> Entry:
    """A parameter column of one row: computed from its runs, beside what the paper printed."""
    unit = 10**6 if row.name in table.spec.plain_million else MEBI
    texts = list(dict.fromkeys(million(count, unit) for count in row.counts[name]))
    text = "-".join([texts[0], texts[-1]][: len(texts)]) if texts else NONE if row.quoted else NOT_RUN
    return Entry(text, row.printed[name] or (NONE if table.of_paper else ""))


def million(count: int, unit: int) -> str:
    """``393216 → 0.375M``: three digits, or two decimals from 100 on; "–" for none."""
    value = count / unit
    return NONE if count == 0 else f"{value:.2f}M" if value >= 100 else f"{value:.3g}M"


def score_text(score: Number, digits: int) -> str:
    """``69.60``, with several seeds ``69.60 ± 0.21``, and ``(2 of 3)`` where seeds are missing."""
    text = f"{score.mean:.{digits}f}"
    if score.sd is not None:
        text += f" ± {score.sd:.{digits}f}"
    return text + score.count


def shape_texts(table: Table, found: Sequence[Shape]) -> Texts:
    """The columns' shapes under `SHAPE_HEADS`."""
    rows = sum(not row.quoted for row in table.rows)
    lines = []
    for shape in found:
        # + 0.0: no minus before a zero
        known = NONE if shape.correlation is None else f"{round(shape.correlation, 2) + 0.0:+.2f}"
        ours = " and ".join(row_title(table, row) for row in shape.ours) or NONE
        paper = " and ".join(row_title(table, row, of_paper=True) for row in shape.paper)
        needed = NONE if shape.critical is None else f"±{shape.critical:.2f}"
        lines.append([shape.column, ours, paper, known, needed, f"{shape.rows} of {rows}"])
    return Texts(SHAPE_HEADS, lines, (3, 4, 5))
