"""How much better one row is than another, over seeds and test items: estimate, interval, tests.

docs/statistics.md has the formulas, and a simulation of how often the interval holds the truth.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

LEVEL = 0.05  # of every one-sided test; an interval leaves half of it on either side
ENOUGH_POWER = 0.8


@dataclass(frozen=True)
class Region:
    """Where a sentence says that the gain lies: above ``low``, below ``high``."""

    low: float = -math.inf
    high: float = math.inf

    def holds(self, gain: float) -> bool:
        """Whether a gain lies in it."""
        return self.low < gain < self.high


@dataclass(frozen=True)
class Gain:
    """How much better one row is than another; positive is better, also where a low score is good (TER).

    by_seed: differences of the full-test scores, one a pair of runs with the same seed. item_variance: of their mean
    when the test items are drawn anew, the same for both rows and all seeds. items: how many there are.
    shared_variance: what of ``item_variance`` stays however many the seeds (`shared_by_seeds`); None: all of it.
    """

    by_seed: tuple[float, ...]
    item_variance: float
    items: int
    shared_variance: float | None = None

    @property
    def difference(self) -> float:
        """The mean over the seeds."""
        return float(np.mean(self.by_seed))

    @property
    def seeds(self) -> int:
        """How many pairs of runs there are."""
        return len(self.by_seed)

    @property
    def error(self) -> tuple[float, float]:
        """The standard error and its degrees of freedom; with one seed those of the items alone."""
        variance, df = error_of(np.array(self.by_seed), np.array(self.item_variance), self.items)
        return math.sqrt(variance), float(df)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval; with one seed it leaves out what another seed would change."""
        error, df = self.error
        half = float(stats.t.isf(LEVEL / 2, df)) * error
        return self.difference - half, self.difference + half

    def above(self, bound: float) -> float:
        """The one-sided p value of "the gain is above ``bound``"."""
        error, df = self.error
        return tail(self.difference - bound, error, df)

    def below(self, bound: float) -> float:
        """The one-sided p value of "the gain is below ``bound``"."""
        error, df = self.error
        return tail(bound - self.difference, error, df)

    def inside(self, region: Region) -> float:
        """The p value of "the gain lies in the region": below 0.05 where each end's one-sided bound lies inside."""
        return max(self.above(region.low), self.below(region.high))

    def outside(self, region: Region) -> float:
        """The p value of "the gain lies outside": of the nearer end, twice where there are two."""
        ends = math.isfinite(region.low) + math.isfinite(region.high)
        return min(1.0, ends * min(self.below(region.low), self.above(region.high)))

    def power(self, region: Region, gain: float) -> float:
        """How likely a true ``gain`` is shown to lie in the region with these test items and any number of seeds."""
        error = math.sqrt(self.item_variance if self.shared_variance is None else self.shared_variance)
        if error == 0:
            return float(region.holds(gain))
        ends = ((gain - region.low) / error, (region.high - gain) / error)
        shown = [float(stats.norm.cdf(end - stats.norm.isf(LEVEL))) for end in ends]
        return max(0.0, sum(shown) - 1)


def error_of(by_seed: Floats, item_variance: Floats, items: int) -> tuple[Floats, Floats]:
    """The squared standard error of the mean over seeds, and its degrees of freedom by Satterthwaite.

    ``SE² = V_run + V_item`` with ``V_run = s² / n`` over the n paired seeds, and ``df = SE⁴ / (V_run² / (n − 1) +
    V_item² / (items − 1))``; with one seed ``V_item`` and ``items − 1``.

    Args:
        by_seed: differences, (…, seeds).
        item_variance: of their mean, (…).
        items: how many test items were drawn.

    Returns:
        Two arrays (…).
    """
    seeds, of_items = by_seed.shape[-1], max(items - 1, 1)
    if seeds == 1:
        return item_variance, np.full(item_variance.shape, float(of_items))
    run = by_seed.var(axis=-1, ddof=1) / seeds
    # Scaled by the larger one, so that the squares of the smallest variances are no zeros.
    largest = np.maximum(run, item_variance)
    scale = np.where(largest > 0, largest, 1)
    a, b = run / scale, item_variance / scale
    below = a**2 / (seeds - 1) + b**2 / of_items
    df = np.divide((a + b) ** 2, below, out=np.full(below.shape, float(of_items)), where=below > 0)
    return run + item_variance, df


def shared_by_seeds(drawn: Floats) -> float:
    """The part of the items' variance that more seeds do not lessen: the mean covariance of two seeds' gains.

    The variance of the mean over n seeds is that part and 1/n of what a run changes in single items.

    Args:
        drawn: gains on the same draws of the items, (seeds, draws).
    """
    seeds = len(drawn)
    if seeds == 1:
        return float(drawn.var(ddof=1))
    pairs = drawn.sum(axis=0).var(ddof=1) - drawn.var(axis=1, ddof=1).sum()  # twice each pair's covariance
    return max(0.0, float(pairs)) / (seeds * (seeds - 1))


def tail(distance: float, error: float, df: float) -> float:
    """P(T ≥ distance / error); without any error 0 where the distance is above 0, else 1."""
    if math.isinf(distance):
        return 0.0 if distance > 0 else 1.0
    if error == 0:
        return 0.0 if distance > 0 else 1.0
    return float(stats.t.sf(distance / error, df))


def holm(p_values: list[float]) -> list[float]:
    """Adjusted by Holm (1979): one below α is significant with an error of at most α over all of them."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted
