"""Is one row better than another? A paired bootstrap over test items, and over seeds where there are many."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from delta_lora.errors import UserError
from delta_lora.metrics.base import Resampler
from delta_lora.suite.records import Run

Verdict = Literal["reproduced", "within noise", "not reproduced", "not run"]


@dataclass(frozen=True)
class Gain:
    """How much better one row is than another; positive is better, also where a low score is good (TER).

    difference: of the two scores, as means over seeds. low, high: its 95 % interval. seeds: pairs of runs.
    """

    difference: float
    low: float
    high: float
    seeds: int

    @property
    def verdict(self) -> Verdict:
        """Reproduced: the interval lies above 0; not reproduced: below it; within noise: it holds 0."""
        if self.low > 0:
            return "reproduced"
        return "not reproduced" if self.high < 0 else "within noise"


class PairedBootstrap:
    """Paired bootstrap (Koehn 2004): two runs are scored on the same resamples of the same test items.

    With several seeds a resample also draws the seeds, with replacement, and its difference is the mean over
    them: the interval then holds both sources of chance. Intervals go from the 2.5 % to the 97.5 %
    percentile. A run is scored once, in however many comparisons it stands.

    Args:
        resampler: makes a run's `Resampler`.
        resamples: how many.
        seed: of the draws; equal seeds give equal intervals.
    """

    def __init__(self, resampler: Callable[[Run], Resampler], resamples: int = 1000, seed: int = 0) -> None:
        self.resampler = resampler
        self.resamples = resamples
        self.seed = seed
        self._scores: dict[str, dict[str, NDArray[np.float64]]] = {}

    def scores(self, run: Run) -> dict[str, NDArray[np.float64]]:
        """The run's scores on every resample: metric → (resamples,)."""
        if run.key not in self._scores:
            resampler = self.resampler(run)
            size = (self.resamples, resampler.size)
            draws = np.random.default_rng([self.seed, resampler.size]).integers(resampler.size, size=size)
            scored = [resampler.score(indices) for indices in draws]
            self._scores[run.key] = {name: np.array([score[name] for score in scored]) for name in scored[0]}
        return self._scores[run.key]

    def gain(
        self, better: Sequence[Run], worse: Sequence[Run], metric: str, sign: Literal[1, -1] = 1
    ) -> Gain | None:
        """The gain of one row's runs over another's, paired by seed.

        Args:
            better, worse: the rows' runs, one a seed.
            metric: its name in the records.
            sign: 1 where a higher score is better, -1 where a lower one is.

        Returns:
            None where no seed has a run in both rows.

        Raises:
            UserError: two runs of a pair were tested on different items.
        """
        left = {run.config["seed"]: run for run in better}
        right = {run.config["seed"]: run for run in worse}
        pairs = [(left[seed], right[seed]) for seed in sorted(left.keys() & right.keys())]
        if not pairs:
            return None
        for pair in pairs:
            check_same_items(*pair)
        observed = [sign * (a.metrics[metric] - b.metrics[metric]) for a, b in pairs]
        resampled = np.stack([sign * (self.scores(a)[metric] - self.scores(b)[metric]) for a, b in pairs])
        seeds = np.random.default_rng([self.seed, len(pairs)]).integers(len(pairs), size=resampled.shape)
        low, high = np.percentile(np.take_along_axis(resampled, seeds, axis=0).mean(axis=0), [2.5, 97.5])
        return Gain(float(np.mean(observed)), float(low), float(high), len(pairs))


def check_same_items(left: Run, right: Run) -> None:
    """Test items can be paired only if both runs had the same ones, in the same order.

    Raises:
        UserError: they had not.
    """
    if [line["id"] for line in left.predictions()] != [line["id"] for line in right.predictions()]:
        raise UserError(
            f"the predictions of runs {left.key} and {right.key} are of different test items, so they cannot "
            "be compared; delete the wrong one and run its cell again"
        )
