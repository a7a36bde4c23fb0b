"""What the metric suites share: resampling, and checks of their input."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from delta_lora.errors import UserError

Scores = dict[str, float]

_Scalar = TypeVar("_Scalar", bound=np.generic)


class Resampler(ABC):
    """Corpus scores of any selection of test items, from per-item statistics: a paired bootstrap is cheap.

    Two systems are compared by scoring both on the same selections. What a metric learns from the whole set
    of references (NIST's information weights, CIDEr's document frequencies) stays that of the full set.
    """

    size: int
    """The number of test items."""

    strata: NDArray[np.intp] | None = None
    """The part of the test set that each item is of, (items,): drawn anew, a part keeps its number. None: one part."""

    @abstractmethod
    def score(self, indices: ArrayLike | None = None) -> Scores:
        """The suite's scores over the items ``indices`` (repeats count again); all items once by default."""

    def scores(self, counts: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """The suite's scores of many selections at once.

        A suite whose statistics add up over items has a faster one: one product of ``counts`` and the statistics.

        Args:
            counts: how often each selection has each item, (selections, items).

        Returns:
            By metric one score a selection, (selections,); NaN where a selection has no item of the metric's part.
        """
        items = np.arange(self.size)
        found = [self.score(np.repeat(items, row.astype(np.intp))) for row in counts]
        names = dict.fromkeys(name for scores in found for name in scores)
        return {name: np.array([scores.get(name, np.nan) for scores in found]) for name in names}


class ItemMeans(Resampler):
    """A suite whose scores are means over the items.

    Args:
        names: of the scores.
        values: each item's, (items, scores), in the units of the scores.
    """

    def __init__(self, names: Sequence[str], values: ArrayLike) -> None:
        self.names = list(names)
        self.values = np.asarray(values, dtype=np.float64)
        self.size = len(self.values)

    def score(self, indices: ArrayLike | None = None) -> Scores:
        """The means over the items ``indices``."""
        return dict(zip(self.names, select(self.values, indices).mean(axis=0).tolist(), strict=True))

    def scores(self, counts: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """The means of many selections, in one product."""
        means = counts @ self.values / counts.sum(axis=1, keepdims=True)
        return dict(zip(self.names, means.T, strict=True))


class TokenLoss(Resampler):
    """The mean loss of a target token, ``loss``: as training has it, a long reference counts more than a short one.

    Args:
        losses: summed over the target tokens of each item's references, in nats, (items,).
        tokens: how many those are, (items,).
    """

    def __init__(self, losses: ArrayLike, tokens: ArrayLike) -> None:
        self.statistics = np.stack([np.asarray(losses, np.float64), np.asarray(tokens, np.float64)], axis=1)
        self.size = len(self.statistics)

    def score(self, indices: ArrayLike | None = None) -> Scores:
        """The mean over the target tokens of the items ``indices``."""
        loss, tokens = select(self.statistics, indices).sum(axis=0)
        return {"loss": float(loss / tokens)}

    def scores(self, counts: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """The means of many selections, in one product."""
        sums = counts @ self.statistics
        return {"loss": sums[:, 0] / sums[:, 1]}


def select(statistics: NDArray[_Scalar], indices: ArrayLike | None) -> NDArray[_Scalar]:
    """Rows ``indices`` of ``statistics`` (items, …), or all of them."""
    return statistics if indices is None else statistics[np.asarray(indices, dtype=np.intp)]


def check_items(predictions: Sequence[Any], references: Sequence[Any]) -> None:
    """Refuse unequal numbers of predictions and references, and none at all.

    Raises:
        UserError: with both numbers.
    """
    if len(predictions) != len(references):
        raise UserError(
            f"{len(predictions)} predictions for {len(references)} test items: give one prediction per item"
        )
    if len(predictions) == 0:
        raise UserError("nothing to score: 0 predictions; give at least one")


def check_references(references: Sequence[Sequence[str]]) -> None:
    """Refuse a test item that has no reference, or a bare string in place of a list of references.

    Raises:
        UserError: naming the item.
    """
    for number, item in enumerate(references, start=1):
        if isinstance(item, str):
            raise UserError(f"references of item {number} are one string; give a list of strings")
        if not item:
            raise UserError(f"item {number} has no reference; give at least one")
