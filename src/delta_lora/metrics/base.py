"""What the metric suites share: resampling, and checks of their input."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from delta_lora.errors import UserError

Scores = dict[str, float]

_Scalar = TypeVar("_Scalar", bound=np.generic)


class Resampler(Protocol):
    """Corpus scores of any selection of test items, from per-item statistics: a paired bootstrap is cheap.

    Two systems are compared by scoring both on the same ``indices``. What a metric learns from the whole set
    of references (NIST's information weights, CIDEr's document frequencies) stays that of the full set.
    """

    size: int
    """The number of test items."""

    def score(self, indices: ArrayLike | None = None) -> Scores:
        """The suite's scores over the items ``indices`` (repeats count again); all items once by default."""


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
