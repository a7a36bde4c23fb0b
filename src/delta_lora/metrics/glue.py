"""GLUE: accuracy, Matthews correlation for CoLA, Pearson correlation for STS-B, each × 100."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from delta_lora.errors import UserError
from delta_lora.metrics.base import Resampler, Scores, check_items, select

DESCRIPTION = """The metric of one GLUE task, × 100: accuracy, Matthews correlation (CoLA) or Pearson correlation
(STS-B). For MNLI the accuracy over matched and mismatched examples together, and of each."""

CITATION = """@inproceedings{wang2019glue, title={{GLUE}: A Multi-Task Benchmark and Analysis Platform for Natural
Language Understanding}, author={Wang, Alex and Singh, Amanpreet and Michael, Julian and Hill, Felix and Levy, Omer
and Bowman, Samuel R.}, booktitle={Proceedings of ICLR}, year={2019}}"""

# The number of labels of each task, None for a regression.
TASKS: dict[str, int | None] = {
    "mnli": 3,
    "sst2": 2,
    "mrpc": 2,
    "cola": 2,
    "qnli": 2,
    "qqp": 2,
    "rte": 2,
    "stsb": None,
}
_MOST = 1e100  # of a similarity, so that its square is a number
Floats = NDArray[np.float64]

_CORRELATIONS = {"cola": "matthews", "stsb": "pearson"}


def metric_name(task: str) -> str:
    """The key of the score that Table 4 shows for ``task``: "accuracy", "matthews" or "pearson".

    Raises:
        UserError: an unknown task.
    """
    _check_task(task)
    return _CORRELATIONS.get(task, "accuracy")


def score(
    task: str,
    predictions: Sequence[float],
    references: Sequence[float],
    matched: Sequence[bool] | None = None,
) -> Scores:
    """``{"accuracy": …}``, ``{"matthews": …}`` or ``{"pearson": …}``, × 100.

    A correlation with something constant is undefined; it counts as 0.

    Args:
        task: One of :data:`TASKS`.
        predictions: One label per example; for STS-B one similarity.
        references: Its right label.
        matched: For MNLI only, whether each example is of the matched set: adds ``accuracy-matched`` and
            ``accuracy-mismatched``.

    Raises:
        UserError: an unknown task, a label unknown to the task, or unequal numbers.
    """
    return GlueResampler(task, predictions, references, matched).score()


def official(scores: Scores) -> Scores:
    """``scores`` as fractions under the names of ``evaluate``'s own GLUE metric, to six decimals."""
    names = {"matthews": "matthews_correlation"}
    return {names.get(name, name): round(value / 100, 6) for name, value in scores.items()}


class GlueResampler(Resampler):
    """One system's predictions on one task; see :class:`delta_lora.metrics.base.Resampler`.

    Raises:
        UserError: as :func:`score`.
    """

    def __init__(
        self,
        task: str,
        predictions: Sequence[float],
        references: Sequence[float],
        matched: Sequence[bool] | None = None,
    ) -> None:
        self.metric = metric_name(task)
        check_items(predictions, references)
        self.size = len(predictions)
        self._predictions = as_labels(task, "prediction", predictions)
        self._references = as_labels(task, "reference", references)
        self._matched = None if matched is None else _matched_flags(task, matched, self.size)
        self._reported = summands(self.metric, self._predictions, self._references)  # (items, sums)

    def score(self, indices: ArrayLike | None = None) -> Scores:
        """The scores over the examples ``indices``, in the units of :func:`score`."""
        predictions, references = select(self._predictions, indices), select(self._references, indices)
        if self.metric == "matthews":
            from sklearn.metrics import matthews_corrcoef  # takes long to load

            return {"matthews": 100 * float(matthews_corrcoef(references, predictions))}
        if self.metric == "pearson":
            return {"pearson": 100 * _pearson(predictions, references)}
        right = predictions == references
        scores = {"accuracy": 100 * float(right.mean())}
        if self._matched is not None:
            matched = select(self._matched, indices)
            for name, mask in (("matched", matched), ("mismatched", ~matched)):
                if mask.any():
                    scores[f"accuracy-{name}"] = 100 * float(right[mask].mean())
        return scores

    def scores(self, counts: Floats) -> dict[str, Floats]:
        """The scores of many selections, in one product."""
        found = {self.metric: score_of(self.metric, counts @ self._reported)}
        if self._matched is not None:
            for name, part in (("matched", self._matched), ("mismatched", ~self._matched)):
                if part.any():
                    found[f"accuracy-{name}"] = score_of(self.metric, counts @ (self._reported * part[:, None]))
        return found


def summands(metric: str, predictions: Floats, references: Floats) -> Floats:
    """What each item adds to the sums that a metric is made of, (items, sums)."""
    if metric == "matthews":
        pairs = [(1, 1), (0, 0), (1, 0), (0, 1)]  # true and false positives and negatives
        columns = [(predictions == said) & (references == right) for said, right in pairs]
    elif metric == "pearson":
        x, y = predictions - predictions.mean(), references - references.mean()  # a shift changes no correlation
        columns = [np.ones_like(x), x, y, x * x, y * y, x * y]
    else:
        columns = [predictions == references, np.ones(len(references))]
    return np.stack(columns, axis=1).astype(np.float64)


def score_of(metric: str, sums: Floats) -> Floats:
    """A metric × 100 from the sums of `summands`, (…, sums) → (…): NaN without items, 0 for no correlation."""
    with np.errstate(invalid="ignore", divide="ignore"):
        if metric == "accuracy":
            return 100 * sums[..., 0] / sums[..., 1]
        if metric == "matthews":
            tp, tn, fp, fn = np.moveaxis(sums, -1, 0)
            empty = sums.sum(axis=-1) == 0
            above, below = tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn)) * np.sqrt((tn + fp) * (tn + fn))
        else:
            n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
            empty = n == 0
            spread_x, spread_y = n * xx - x * x, n * yy - y * y
            constant = (spread_x <= 1e-12 * n * xx) | (spread_y <= 1e-12 * n * yy)
            above, below = n * xy - x * y, np.where(constant, 0, np.sqrt(spread_x) * np.sqrt(spread_y))
        return np.where(empty, np.nan, 100 * np.where(below > 0, above / below, 0))


def _check_task(task: str) -> None:
    if task not in TASKS:
        raise UserError(f"unknown GLUE task {task!r}: choose one of {', '.join(TASKS)}")


def as_labels(task: str, what: str, values: Sequence[float]) -> NDArray[np.float64]:
    """The values as an array.

    Raises:
        UserError: one is no label of the task; ``what`` it is.
    """
    array = np.asarray(values, dtype=np.float64)
    labels = TASKS[task]
    allowed = np.abs(array) < _MOST if labels is None else np.isin(array, np.arange(labels))
    if not allowed.all():
        first = int(np.flatnonzero(~allowed)[0])
        kinds = "finite numbers (below 1e100)" if labels is None else ", ".join(map(str, range(labels)))
        raise UserError(f"{what} {first + 1} is {values[first]}: the labels of {task} are {kinds}")
    return array


def _matched_flags(task: str, matched: Sequence[bool], size: int) -> NDArray[np.bool_]:
    if task != "mnli":
        raise UserError(f"matched was given for {task}: only mnli has matched and mismatched examples")
    if len(matched) != size:
        raise UserError(f"{len(matched)} matched flags for {size} examples: give one flag per example")
    return np.array([bool(flag) for flag in matched])


def _pearson(predictions: NDArray[np.float64], references: NDArray[np.float64]) -> float:
    if np.ptp(predictions) == 0 or np.ptp(references) == 0:
        return 0.0
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = float(np.corrcoef(predictions, references)[0, 1])
    return correlation if np.isfinite(correlation) else 0.0  # so nearly constant that the variance is 0
