"""The shape of a table's columns: which row is best, and whether ours rank as the paper's do.

Where models and data are others than the paper's, scores cannot be compared, but where the best λ lies, and which
rows beat which, still can.
"""

from dataclasses import dataclass

from scipy.stats import spearmanr

from delta_lora.suite.pages import layout
from delta_lora.suite.tables.build import Row, Table

FEWEST = 3  # rows that a rank correlation needs to mean anything


@dataclass(frozen=True)
class Shape:
    """One column's shape.

    ours, paper: the best rows, ties shared; over all of the paper's rows that are not quoted. correlation: Spearman's
    ρ of our column with the paper's, ties averaged; None with fewer than three rows, or where a side is constant.
    rows: how many rows have both numbers.
    """

    column: str
    ours: list[Row]
    paper: list[Row]
    correlation: float | None
    rows: int


def shapes(table: Table) -> list[Shape]:
    """The shape of every column for which our runs and the paper share at least two rows."""
    found = []
    for column in table.spec.columns:
        both = [row for row in table.rows if row.scores[column] is not None and row.printed[column]]
        if len(both) >= 2:
            best = [layout.best(table, column, ours=ours) for ours in (True, False)]
            ours, paper = ([row for row in table.rows if row.name in names] for names in best)
            found.append(Shape(column, ours, paper, correlation(both, column), len(both)))
    return found


def correlation(rows: list[Row], column: str) -> float | None:
    """Spearman's rank correlation of our scores (means over seeds) with the paper's."""
    ours = [score.mean for row in rows if (score := row.scores[column]) is not None]
    paper = [float(row.printed[column]) for row in rows]
    if len(rows) < FEWEST or len(set(ours)) == 1 or len(set(paper)) == 1:
        return None
    return float(spearmanr(ours, paper).statistic)


HEADS = ["Column", "Best of ours", "Best of the paper's", "Spearman's ρ", "Rows"]


def shape_texts(table: Table, shape: Shape) -> list[str]:
    """A shape under `HEADS`."""
    known = (
        layout.NONE if shape.correlation is None else f"{round(shape.correlation, 2) + 0.0:+.2f}"
    )  # + 0.0: no minus before a zero
    ours = " and ".join(layout.row_title(table, row) for row in shape.ours)
    paper = " and ".join(layout.row_title(table, row, of_paper=True) for row in shape.paper)
    return [shape.column, ours, paper, known, f"{shape.rows} of {sum(not row.quoted for row in table.rows)}"]


NOTE = (
    "Best of ours: among the rows that have been run. Spearman's ρ: the rank correlation of our column with the "
    "paper's (1: the same order, -1: the reverse) over the rows that both have; with few rows it says little."
)
