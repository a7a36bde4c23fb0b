"""A gain's standard error, its degrees of freedom and its tests, against values worked out by other means."""

import math

import numpy as np
import pytest
from scipy import stats

from delta_lora.suite.tables.gain import Gain, Region, holm, shared_by_seeds


def test_without_item_error_it_is_the_paired_t_test() -> None:
    differences = (1.0, 2.5, 1.5, 0.2, 3.0)
    gain = Gain(differences, 0.0, 630)
    test = stats.ttest_1samp(differences, 0, alternative="greater")
    assert gain.error[1] == pytest.approx(4)
    assert gain.above(0) == pytest.approx(test.pvalue)
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert gain.interval == pytest.approx((interval.low, interval.high))


def test_both_errors_add_and_satterthwaite_lies_between() -> None:
    differences = (1.0, 2.0, 3.0)
    error, df = Gain(differences, 1 / 3, 101).error
    assert error == pytest.approx(math.sqrt(1 / 3 + 1 / 3))
    assert df == pytest.approx((2 / 3) ** 2 / ((1 / 3) ** 2 / 2 + (1 / 3) ** 2 / 100))
    assert 2 < df < 102


def test_with_one_seed_the_interval_is_the_items_alone() -> None:
    gain = Gain((2.0,), 0.25, 1001)
    half = stats.t.isf(0.025, 1000) * 0.5
    assert gain.interval == pytest.approx((2 - half, 2 + half))


def test_equal_runs_have_no_error_and_no_gain() -> None:
    gain = Gain((0.0, 0.0, 0.0), 0.0, 10)
    assert gain.interval == (0.0, 0.0)
    assert gain.above(0) == gain.below(0) == 1.0
    assert Gain((0.5, 0.5, 0.5), 0.0, 10).above(0) == 0.0


def test_a_gain_is_shown_to_lie_within_a_margin_only_if_both_bounds_do() -> None:
    region = Region(-0.5, 0.5)
    near = Gain((0.0, 0.1, -0.1, 0.05, -0.05), 1e-4, 630)
    wide = Gain((0.0, 1.0, -1.0, 0.5, -0.5), 1e-4, 630)
    far = Gain((2.0, 2.1, 1.9, 2.05, 1.95), 1e-4, 630)
    assert near.inside(region) < 0.05 < near.outside(region)
    assert wide.inside(region) > 0.05 and wide.outside(region) > 0.05
    assert far.outside(region) < 0.05 < far.inside(region)
    assert far.outside(region) == pytest.approx(2 * far.above(0.5))


def test_holms_adjustment_is_the_step_down_of_the_textbook() -> None:
    # Holm (1979): 0.01 · 4, 0.015 · 3, max(0.045, 0.03 · 2), max(0.06, 0.04 · 1)
    assert holm([0.03, 0.01, 0.04, 0.015]) == pytest.approx([0.06, 0.04, 0.06, 0.045])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_power_is_how_often_the_test_items_show_the_papers_gain() -> None:
    gain = Gain((0.0, 0.1, 0.2), 0.25, 100)
    draws = np.random.default_rng(0).normal(0.8, 0.5, size=200_000)
    assert gain.power(Region(low=0), 0.8) == pytest.approx(np.mean(draws > 1.645 * 0.5), abs=0.005)
    assert gain.power(Region(low=0), 100) == pytest.approx(1)
    assert gain.power(Region(-0.1, 0.1), 0.0) == 0.0
    assert Gain((0.0, 0.1, 0.2), 0.0, 100).power(Region(low=0), 0.8) == 1.0


@pytest.mark.parametrize("seeds", [3, 5])
def test_what_runs_change_in_single_items_is_no_limit_of_the_test_set(seeds: int) -> None:
    """Rows that are right in 0.875 and 0.86 of the cases, each item and run for itself: more runs do show the gain."""
    rng = np.random.default_rng(seeds)
    right = [(rng.random((seeds, 872)) < share).astype(float) for share in (0.875, 0.86)]
    counts = rng.multinomial(872, np.full(872, 1 / 872), size=4000)
    drawn = 100 * (right[0] - right[1]) @ counts.T / 872  # (seeds, draws)
    gain = Gain(tuple(drawn.mean(axis=1)), float(drawn.mean(axis=0).var(ddof=1)), 872, shared_by_seeds(drawn))
    assert Gain(gain.by_seed, gain.item_variance, 872).power(Region(low=0), 1.5) < 0.8
    assert gain.power(Region(low=0), 1.5) > 0.95


def test_what_all_runs_have_in_common_is_the_limit_of_the_test_set() -> None:
    drawn = np.random.default_rng(0).normal(0, [[0.5]], size=(1, 4000)) + np.zeros((4, 1))
    assert shared_by_seeds(drawn) == pytest.approx(0.25, rel=0.1)
    assert shared_by_seeds(drawn[:1]) == pytest.approx(shared_by_seeds(drawn))
