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
