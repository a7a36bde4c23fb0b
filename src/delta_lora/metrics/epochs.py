"""What choosing the best epoch on the scored items adds to a score: the last epoch's, and the cross-fitted best's.

The best of several epochs on the items that are reported is partly the luckiest. Cross-fitted, the epoch is chosen on
one half of the items and scored on the other, both ways, over `SPLITS` fixed splits: the same rule, scored on items
that had no say in it. (The choice is made on half of the items, so it is, if anything, a little worse than the rule's.)
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from delta_lora.metrics.base import Scores, check_items
from delta_lora.metrics.glue import Floats, GlueResampler, as_labels, score_of, summands

SPLITS = 50
LAST, CROSS_FITTED = "-last", "-cross-fitted"  # after a metric's name


class EpochResampler(GlueResampler):
    """One run's predictions on a GLUE task, after every epoch; see :class:`delta_lora.metrics.base.Resampler`.

    Beside the scores of the reported predictions there are ``NAME-last`` and ``NAME-cross-fitted``. A resample repeats
    the choice. Its splits are of the test items, so that copies of one item are never on both sides.

    Args:
        task, predictions, references, matched: as for :class:`GlueResampler`; the predictions that are reported.
        epochs: the predictions after each epoch, in their order, (epochs, items).

    Raises:
        UserError: as :class:`GlueResampler`.
    """

    def __init__(
        self,
        task: str,
        predictions: Sequence[float],
        references: Sequence[float],
        matched: Sequence[bool] | None,
        epochs: Sequence[Sequence[float]],
    ) -> None:
        super().__init__(task, predictions, references, matched)
        for epoch in epochs:
            check_items(epoch, references)
        after = np.stack([as_labels(task, "prediction", epoch) for epoch in epochs])
        self._last = GlueResampler(task, list(after[-1]), references)
        self._halves = splits(self.size)
        # (items, epochs · sums), (items, sums): of whatever items, their sums are one product.
        self._after = np.concatenate([summands(self.metric, epoch, self._references) for epoch in after], axis=1)

    def score(self, indices: ArrayLike | None = None) -> Scores:
        """The scores over the examples ``indices``; the cross-fitted one is left out where a half has none of them."""
        scores = super().score(indices)
        scores[f"{self.metric}{LAST}"] = self._last.score(indices)[self.metric]
        drawn = np.arange(self.size) if indices is None else np.asarray(indices, dtype=np.intp)
        (fitted,) = self.cross_fitted(np.bincount(drawn, minlength=self.size)[None].astype(np.float64)).tolist()
        return scores if np.isnan(fitted) else scores | {f"{self.metric}{CROSS_FITTED}": fitted}

    def scores(self, counts: Floats) -> dict[str, Floats]:
        """The scores of many selections, in a product for each split."""
        last = self._after[:, -self._reported.shape[1] :]
        return super().scores(counts) | {
            f"{self.metric}{LAST}": score_of(self.metric, counts @ last),
            f"{self.metric}{CROSS_FITTED}": self.cross_fitted(counts),
        }

    def cross_fitted(self, counts: Floats) -> Floats:
        """The mean over the splits, and over both directions of each, of the chosen epoch's score on the other half.

        Args:
            counts: how often each selection has each item, (selections, items).

        Returns:
            One score a selection, (selections,); NaN where a half of a split has no item of it.
        """
        shape = (len(counts), -1, self._reported.shape[1])
        total, found = counts @ self._after, np.zeros(len(counts))
        for half in self._halves:
            left = counts @ (self._after * half[:, None])
            one, other = (score_of(self.metric, sums.reshape(shape)) for sums in (left, total - left))
            for here, there in ((one, other), (other, one)):  # (selections, epochs); the first of equals
                found += np.take_along_axis(there, here.argmax(axis=1)[:, None], axis=1)[:, 0]
        return found / (2 * len(self._halves))


def splits(size: int) -> NDArray[np.bool_]:
    """The fixed splits of ``size`` items, (`SPLITS`, size): a half of them, drawn without replacement, is True."""
    rng = np.random.default_rng([0, size])
    return np.stack([rng.permutation(size) < size // 2 for _ in range(SPLITS)])
