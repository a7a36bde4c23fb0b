"""Is one row better than another? A paired bootstrap over test items, and over seeds where there are many."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from delta_lora.errors import UserError
from delta_lora.metrics.base import Resampler
from delta_lora.suite.config.settings import task_class
from delta_lora.suite.records.records import Run, read_sealed, write_sealed

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
        cache: a folder that keeps scores, so that a run is scored once in its life; None keeps none.
        resamples: how many.
        seed: of the draws; equal seeds give equal intervals.
    """

    def __init__(
        self, resampler: Callable[[Run], Resampler], cache: Path | None, resamples: int = 1000, seed: int = 0
    ) -> None:
        self.resampler = resampler
        self.cache = cache
        self.resamples = resamples
        self.seed = seed
        self._scores: dict[str, dict[str, NDArray[np.float64]]] = {}

    def scores(self, run: Run) -> dict[str, NDArray[np.float64]]:
        """The run's scores on every resample: metric → (resamples,), NaN where a resample drew no item of its part."""
        if run.key not in self._scores:
            digest = sha256(run.text("predictions.jsonl").encode()).hexdigest()[:16]
            name = f"{run.key}-{digest}-{self.resamples}-{self.seed}.json"
            kept = None if self.cache is None else read_scores(self.cache / name, self.resamples)
            self._scores[run.key] = self._score(run) if kept is None else kept
            if kept is None and self.cache is not None:
                lists = {metric: values.tolist() for metric, values in self._scores[run.key].items()}
                write_sealed(self.cache / name, lists)
        return self._scores[run.key]

    def _score(self, run: Run) -> dict[str, NDArray[np.float64]]:
        resampler = self.resampler(run)
        size = (self.resamples, resampler.size)
        draws = np.random.default_rng([self.seed, resampler.size]).integers(resampler.size, size=size)
        scored = [resampler.score(indices) for indices in draws]
        # WebNLG's unseen categories have no score in a resample that drew none of them: few test items, and it happens.
        metrics = dict.fromkeys(metric for score in scored for metric in score)
        return {metric: np.array([score.get(metric, math.nan) for score in scored]) for metric in metrics}

    def gain(
        self, better: Mapping[int, Run], worse: Mapping[int, Run], metric: str, sign: Literal[1, -1] = 1
    ) -> Gain | None:
        """The gain of one row's runs over another's, paired by seed.

        Args:
            better, worse: the rows' runs by seed.
            metric: its name in the records.
            sign: 1 where a higher score is better, -1 where a lower one is.

        Returns:
            None where no seed has a run in both rows.

        Raises:
            UserError: two runs of a pair were tested on different items.
        """
        pairs = [(better[seed], worse[seed]) for seed in sorted(better.keys() & worse.keys())]
        if not pairs:
            return None
        for pair in pairs:
            check_same_items(*pair)
        for run in (run for pair in pairs for run in pair if metric not in self.scores(run)):
            raise UserError(
                f"the predictions of {run.path} have no {metric}, which its record states; delete the run's folder and "
                "run its cell again"
            )
        observed = [sign * (a.metrics[metric] - b.metrics[metric]) for a, b in pairs]
        resampled = np.stack([sign * (self.scores(a)[metric] - self.scores(b)[metric]) for a, b in pairs])
        seeds = np.random.default_rng([self.seed, len(pairs)]).integers(len(pairs), size=resampled.shape)
        low, high = np.nanpercentile(np.take_along_axis(resampled, seeds, axis=0).mean(axis=0), [2.5, 97.5])
        return Gain(float(np.mean(observed)), float(low), float(high), len(pairs))


def read_scores(path: Path, resamples: int) -> dict[str, NDArray[np.float64]] | None:
    """Scores that were kept; None where there are none, or not those that were written."""
    try:
        kept = read_sealed(path) or {}
        scores = {metric: np.asarray(values, dtype=np.float64) for metric, values in kept.items()}
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return scores if scores and all(values.shape == (resamples,) for values in scores.values()) else None


def check_same_items(left: Run, right: Run) -> None:
    """Test items can be paired only if both runs had the same ones, in the same order.

    Raises:
        UserError: they had not.
    """
    if items_of(left) != items_of(right):
        raise UserError(
            f"the predictions of runs {left.key} and {right.key} are of different test items, so they cannot "
            "be compared; delete the wrong one and run its cell again"
        )


def items_of(run: Run) -> list[Any]:
    """The ids of a run's test items, in their order.

    Raises:
        UserError: its predictions cannot be read.
    """
    try:
        return [line["id"] for line in run.predictions()]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{run.path / 'predictions.jsonl'} cannot be read ({error}); delete the run's folder and run its cell again"
        ) from error


def resampler_of(run: Run) -> Resampler:
    """The metric suite of a run's task over its predictions.

    Raises:
        UserError: the predictions cannot be read as the task's.
    """
    task: Any = run.config.get("task")
    try:
        kind = task_class(task)
        # Unchecked: an older run may have had other settings, and its predictions are scored all the same.
        return kind(kind.Settings.model_construct(**task), None, run.path).scorer(run.predictions())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{run.path / 'predictions.jsonl'} cannot be read as predictions of "
            f"{task.get('name') if isinstance(task, dict) else 'a task'} ({error}); delete the run's folder and run "
            "its cell again"
        ) from error
