"""Rank correlations with the paper's column: of how many rows, and what chance alone reaches."""

from itertools import permutations

import numpy as np
import pytest

from delta_lora.suite.tables.shape import critical


@pytest.mark.parametrize("rows", [5, 6, 7])
def test_the_critical_value_is_what_all_orders_reach_in_at_most_one_of_twenty(rows: int) -> None:
    ranks = np.arange(rows)
    found = [abs(np.corrcoef(ranks, order)[0, 1]) for order in permutations(ranks)]
    value = critical(rows)
    assert value is not None
    assert (
        np.mean(np.array(found) >= value - 1e-9)
        <= 0.05
        < np.mean(np.array(found) >= value - 12 / (rows**3 - rows) - 1e-9)
    )


def test_they_are_those_of_the_tables() -> None:
    """Zar, Biostatistical Analysis, table B.20, two-sided 0.05."""
    printed = {5: 1.0, 6: 0.886, 7: 0.786, 8: 0.738, 9: 0.700, 10: 0.648, 11: 0.618}
    assert {rows: round(critical(rows) or 0, 3) for rows in printed} == printed


def test_four_rows_have_none() -> None:
    assert critical(4) is None, "even the paper's own order comes up in one of 24 cases, either way in two"
