"""Runs scored on the same draws of the same test items, and rows compared on them, paired by seed."""

import importlib.metadata
import inspect
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from delta_lora import metrics
from delta_lora.errors import UserError
from delta_lora.metrics.base import Resampler
from delta_lora.suite.config.settings import task_class
from delta_lora.suite.records.records import Run, read_sealed, write_sealed
from delta_lora.suite.tables.gain import Gain, shared_by_seeds

Scores = dict[str, NDArray[np.float32]]

SCORERS = ("nltk", "pycocoevalcap", "rouge-score", "sacrebleu", "scikit-learn")  # packages that the metrics are made of
_AT_ONCE = 2**21  # counts of items in memory: 16 MB


class PairedBootstrap:
    """Paired bootstrap over test items (Koehn 2004): all runs on the same items are scored on the same draws.

    A run is scored once, in however many comparisons it stands.

    Args:
        resampler: makes a run's `Resampler`.
        cache: a folder that keeps scores, so that a run is scored once in its life; None keeps none.
        resamples: how many draws.
        seed: of the draws; equal seeds give equal ones.
    """

    def __init__(
        self, resampler: Callable[[Run], Resampler], cache: Path | None, resamples: int = 10_000, seed: int = 0
    ) -> None:
        self.resampler = resampler
        self.cache = cache
        self.resamples = resamples
        self.seed = seed
        self._scores: dict[str, Scores] = {}

    def scores(self, run: Run) -> Scores:
        """The run's scores on every draw: metric → (draws,), NaN where a draw has no item of the metric's part.

        The name of a kept file holds all that they come from: the predictions, the draws, the metric code's version.
        """
        if run.key not in self._scores:
            digest = sha256(text_of(run).encode()).hexdigest()[:16]
            name = f"{run.key}-{digest}-{self.resamples}-{self.seed}-{metric_version()}.json"
            kept = None if self.cache is None else read_scores(self.cache / name, self.resamples)
            self._scores[run.key] = self._score(run) if kept is None else kept
            if kept is None and self.cache is not None:
                packed = {metric: pack(values) for metric, values in self._scores[run.key].items()}
                write_sealed(self.cache / name, packed)
        return self._scores[run.key]

    def _score(self, run: Run) -> Scores:
        resampler = self.resampler(run)
        drawn = [resampler.scores(counts) for counts in draws(resampler, self.resamples, self.seed)]
        names = dict.fromkeys(name for scores in drawn for name in scores)
        # A part of the test set can be missing from a few draws where it is no stratum.
        columns = {
            name: [scores.get(name, np.full(len(next(iter(scores.values()))), np.nan)) for scores in drawn]
            for name in names
        }
        return {name: np.concatenate(parts).astype(np.float32) for name, parts in columns.items()}

    def gain(
        self,
        better: Sequence[Mapping[int, Run]],
        worse: Sequence[Mapping[int, Run]],
        metric: str,
        sign: Literal[1, -1] = 1,
    ) -> Gain | None:
        """The gain of one row's runs over another's, paired by seed; of several rows' mean over several others'.

        Args:
            better, worse: each row's runs by seed.
            metric: its name in the records.
            sign: 1 where a higher score is better, -1 where a lower one is.

        Returns:
            None where no seed has a run in all of the rows.

        Raises:
            UserError: two runs were tested on different items.
        """
        seeds = sorted(set.intersection(*(set(row) for row in (*better, *worse))))
        runs = [row[seed] for seed in seeds for row in (*better, *worse)]
        if not runs:
            return None
        for run in runs:
            check_same_items(runs[0], run)
            if metric not in self.scores(run):
                raise UserError(
                    f"the predictions of {run.path} have no {metric}, which its record states; delete the run's folder "
                    "and run its cell again"
                )

        def difference(of: Callable[[Run], Any], seed: int) -> Any:
            left, right = (sum(of(row[seed]) for row in rows) / len(rows) for rows in (better, worse))
            return sign * (left - right)

        by_seed = [float(difference(lambda run: run.metrics[metric], seed)) for seed in seeds]
        drawn = [difference(lambda run: self.scores(run)[metric].astype(np.float64), seed) for seed in seeds]
        whole = np.array(drawn)  # (seeds, draws)
        whole = whole[:, np.isfinite(whole).all(axis=0)]
        variance, shared = 0.0, 0.0
        if whole.shape[1] > 1:
            variance, shared = float(whole.mean(axis=0).var(ddof=1)), shared_by_seeds(whole)
        return Gain(tuple(by_seed), variance, len(items_of(runs[0])), shared)


def draws(resampler: Resampler, resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each draw has each item, some draws at a time: (draws, items).

    A draw has as many items as the test set, with replacement; of each stratum as many as the stratum has. Equal test
    sets get equal draws.
    """
    size, strata = resampler.size, resampler.strata
    parts = [np.arange(size)] if strata is None else [np.flatnonzero(strata == part) for part in np.unique(strata)]
    rng = np.random.default_rng([seed, size, *map(len, parts)])
    step = max(1, _AT_ONCE // size)
    for first in range(0, resamples, step):
        rows = min(step, resamples - first)
        counts = np.zeros((rows, size))
        for part in parts:
            drawn = rng.integers(len(part), size=(rows, len(part))) + len(part) * np.arange(rows)[:, np.newaxis]
            counts[:, part] = np.bincount(drawn.ravel(), minlength=rows * len(part)).reshape(rows, len(part))
        yield counts


@cache
def metric_version() -> str:
    """Changes with the code of the metrics and of the draws, and with the packages that the metrics are made of."""
    digest = sha256(inspect.getsource(draws).encode())
    for path in sorted(Path(metrics.__path__[0]).glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    for package in SCORERS:
        digest.update(f"{package} {importlib.metadata.version(package)}".encode())
    return digest.hexdigest()[:12]


def pack(values: NDArray[np.float32]) -> str:
    """The bytes of the scores as text."""
    return b64encode(values.astype("<f4").tobytes()).decode()


def read_scores(path: Path, resamples: int) -> Scores | None:
    """Scores that were kept; None where there are none, or not those that were written."""
    try:
        kept = read_sealed(path) or {}
        scores = {metric: np.frombuffer(b64decode(text, validate=True), "<f4") for metric, text in kept.items()}
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return scores if scores and all(values.shape == (resamples,) for values in scores.values()) else None


def check_same_items(left: Run, right: Run) -> None:
    """Test items can be paired only if both runs had the same ones with the same references, in the same order.

    Raises:
        UserError: they had not.
    """
    if items_of(left) != items_of(right):
        raise UserError(
            f"the predictions of runs {left.key} and {right.key} are of different test items, so they cannot "
            "be compared; delete the wrong one and run its cell again"
        )


def text_of(run: Run) -> str:
    """The file of a run's predictions.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return run.text("predictions.jsonl")
    except (OSError, ValueError) as error:
        raise unreadable(run, error) from error


def items_of(run: Run) -> list[Any]:
    """The ids and references of a run's test items, in their order.

    Raises:
        UserError: its predictions cannot be read.
    """
    try:
        return [(line["id"], line.get("references")) for line in run.predictions()]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise unreadable(run, error) from error


def unreadable(run: Run, error: Exception) -> UserError:
    """What to say, and to do, where a run's predictions cannot be read."""
    return UserError(
        f"{run.path / 'predictions.jsonl'} cannot be read ({error}); delete the run's folder and run its cell again"
    )


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
