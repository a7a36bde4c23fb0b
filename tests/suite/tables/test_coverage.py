"""How often the 95 % interval of a gain holds the true one, simulated; docs/statistics.md shows the table."""

import numpy as np
import pytest
from helpers import ROOT
from numpy.typing import NDArray
from scipy import stats

from delta_lora.suite.tables.gain import error_of

Floats = NDArray[np.float64]

ITEMS = 60
EXPERIMENTS = 2000
BOTH = 0.5  # standard deviation of what a run changes in one item, beside 1 of the item in all runs
RATIOS = (0.5, 1.0, 2.5)  # standard deviation of a run's gain over that of the test items' mean
SEEDS = (1, 3, 5)


def experiments(seeds: int, ratio: float, number: int) -> Floats:
    """Paired differences without a true gain, (number, seeds, items): of the run, of the item, of both."""
    rng = np.random.default_rng([seeds, int(10 * ratio)])
    run = ratio * rng.standard_normal((number, seeds, 1)) / np.sqrt(ITEMS)
    return run + rng.standard_normal((number, 1, ITEMS)) + BOTH * rng.standard_normal((number, seeds, ITEMS))


def covered(seeds: int, ratio: float) -> float:
    """By our interval; the items' variance is what infinitely many draws of them come to."""
    found = experiments(seeds, ratio, EXPERIMENTS)
    by_seed = found.mean(axis=2)
    variance, df = error_of(by_seed, found.mean(axis=1).var(axis=1) / ITEMS, ITEMS)
    return float(np.mean(np.abs(by_seed.mean(axis=1)) <= stats.t.isf(0.025, df) * np.sqrt(variance)))


def wrong(seeds: int, ratio: float) -> list[float]:
    """Percent of experiments whose one-sided bound at 5 % and at 1 % says that there is a gain."""
    found = experiments(seeds, ratio, 20000)
    by_seed = found.mean(axis=2)
    variance, df = error_of(by_seed, found.mean(axis=1).var(axis=1) / ITEMS, ITEMS)
    t = by_seed.mean(axis=1) / np.sqrt(variance)
    return [100 * float(np.mean(t > stats.t.isf(level, df))) for level in (0.05, 0.01)]


def covered_by_percentiles(seeds: int, ratio: float) -> float:
    """By percentiles of draws of the items, and of the seeds, which a first version had."""
    rng = np.random.default_rng(0)
    counts = rng.multinomial(ITEMS, np.full(ITEMS, 1 / ITEMS), size=500) / ITEMS  # (draws, items)
    chosen = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=500) / seeds  # (draws, seeds)
    found = experiments(seeds, ratio, 500)
    drawn = np.einsum("di,esi,ds->ed", counts, found, chosen, optimize=True)
    low, high = np.percentile(drawn, [2.5, 97.5], axis=1)
    return float(np.mean((low <= 0) & (high >= 0)))


@pytest.mark.parametrize("seeds", [3, 4, 5])
@pytest.mark.parametrize("ratio", RATIOS)
def test_the_interval_holds_the_truth_in_nine_of_ten_cases_from_three_seeds_on(seeds: int, ratio: float) -> None:
    assert covered(seeds, ratio) >= 0.90


def test_the_page_shows_the_simulation_and_what_percentiles_came_to() -> None:
    page = (ROOT / "docs/statistics.md").read_text(encoding="utf-8")
    for seeds in SEEDS:
        ours = [covered(seeds, ratio) for ratio in RATIOS]
        theirs = [covered_by_percentiles(seeds, ratio) for ratio in RATIOS]
        cells = " | ".join(f"{value:.2f}" for value in (*ours, *theirs))
        assert f"| {seeds} | {cells} |" in page


def test_the_page_shows_how_often_a_one_sided_bound_is_wrong() -> None:
    page = (ROOT / "docs/statistics.md").read_text(encoding="utf-8")
    for seeds in (3, 5):
        at_5, at_1 = zip(*(wrong(seeds, ratio) for ratio in RATIOS), strict=True)
        assert f"| {seeds} | {' | '.join(f'{value:.1f}' for value in (*at_5, *at_1))} |" in page
