"""The shape of a table's columns: which row is best, and whether ours rank as the paper's do.

Where models and data are others than the paper's, scores cannot be compared, but where the best λ lies, and which
rows beat which, still can.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.stats import spearmanr

from delta_lora.suite.tables.table import Row, Table, shared_means, shared_seeds
from delta_lora.tasks.settings import LOSS

FEWEST = 5  # rows: with four no order, not even the paper's own, is significant
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Shape:
    """One column's shape.

    ours, paper: the best rows, ties shared (none of ours where rows have different seeds); over all of the paper's
    rows that are not quoted. correlation: Spearman's ρ of our column with the paper's, ties averaged; None with fewer
    than five rows, without a seed that all have, or where a side is constant.
    critical: the smallest |ρ| that is significant; None with too few rows. rows: how many have both numbers.
    """

    column: str
    ours: list[Row]
    paper: list[Row]
    correlation: float | None
    critical: float | None
    rows: int


def shapes(table: Table) -> list[Shape]:
    """The shape of every column for which our runs and the paper share at least two rows."""
    found = []
    for column in table.spec.columns:
        both = [row for row in table.rows if row.scores[column] is not None and row.printed[column]]
        if len(both) >= 2:
            ours, paper = (
                [row for row in table.rows if row.name in best(table, column, ours=side)] for side in (True, False)
            )
            found.append(Shape(column, ours, paper, correlation(both, column), critical(len(both)), len(both)))
    return found


def correlation(rows: list[Row], column: str) -> float | None:
    """Spearman's rank correlation of our scores (means over the seeds that all rows have) with the paper's."""
    ours = list(shared_means(rows, column).values())
    paper = [float(row.printed[column]) for row in rows]
    if min(len(rows), len(ours)) < FEWEST or len(set(ours)) == 1 or len(set(paper)) == 1:
        return None
    return float(spearmanr(ours, paper).statistic)


@cache
def critical(rows: int) -> float | None:
    """The smallest |ρ| that random orders reach with a probability of at most 5 %, exactly; None below five rows.

    Counts the orders π of n rows by Σ (i − π(i))² = (1 − ρ) n (n² − 1) / 6, over the sets of places already taken:
    n · 2ⁿ steps; eleven rows, as Table 8 has, take 13 ms.
    """
    if rows < FEWEST:
        return None
    most = rows * (rows**2 - 1) // 3  # of the reverse order
    orders = np.zeros((2**rows, most + 1))
    orders[0, 0] = 1
    for taken in range(2**rows - 1):
        place = taken.bit_count()
        for chosen in (one for one in range(rows) if not taken >> one & 1):
            distance = (place - chosen) ** 2
            orders[taken | 1 << chosen, distance:] += orders[taken, : most + 1 - distance]
    share = np.cumsum(orders[-1]) / orders[-1].sum()  # of orders that are at least so similar; as many are so reversed
    similar = np.flatnonzero((2 * share <= SIGNIFICANT) & (orders[-1] > 0))
    return float(1 - 2 * similar[-1] / most)


def best(table: Table, column: str, ours: bool) -> set[str]:
    """The rows with the best number of a column, as shown; ties are shared, a single number beats nothing.

    None of ours where the rows have different seeds: another mean is then no better or worse a row.
    """
    numbers: dict[str, float] = {}
    if ours and different_seeds(table, column):
        return set()
    for row in table.rows:
        score = row.scores[column]
        if ours and score is not None:
            numbers[row.name] = round(score.mean, decimals(table, column))
        elif not ours and row.printed[column] and not row.quoted:
            numbers[row.name] = float(row.printed[column])
    if len(numbers) < 2:
        return set()
    top = max(table.spec.sign(column) * value for value in numbers.values())
    return {name for name, value in numbers.items() if table.spec.sign(column) * value == top}


def different_seeds(table: Table, column: str) -> bool:
    """Whether a row has a seed in a column that another one with a score lacks."""
    shared = shared_seeds(table.rows, column)
    return any(score.seeds > len(shared) for row in table.rows if (score := row.scores[column]) is not None)


def decimals(table: Table, column: str) -> int:
    """Two, as the paper prints; three for scores between 0 and 1, four for a loss: two would hide the differences."""
    if table.metrics.get(column) == LOSS:
        return 4
    shown = [float(row.printed[column]) for row in table.rows if row.printed[column]]
    shown = shown or [abs(score.mean) for row in table.rows if (score := row.scores[column]) is not None]
    return 3 if shown and max(shown) < 1 else 2
