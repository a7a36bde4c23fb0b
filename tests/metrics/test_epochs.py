"""The last epoch's score, and the cross-fitted best's: chosen on one half of the items, scored on the other."""

import numpy as np
import pytest
from numpy.typing import NDArray

from delta_lora.metrics import glue
from delta_lora.metrics.epochs import SPLITS, EpochResampler, splits

ITEMS, EPOCHS = 60, 7


def system(task: str, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """References (items,), and predictions (epochs, items) that are right for some."""
    rng = np.random.default_rng(seed)
    if task == "stsb":
        references = rng.uniform(0, 5, ITEMS)
        return references, references + rng.normal(0, 3, (EPOCHS, ITEMS))
    labels = glue.TASKS[task] or 0
    references = rng.integers(labels, size=ITEMS).astype(float)
    guesses = rng.integers(labels, size=(EPOCHS, ITEMS))
    return references, np.where(rng.random((EPOCHS, ITEMS)) < 0.5, references, guesses)


def resampler(task: str, references: NDArray[np.float64], epochs: NDArray[np.float64]) -> EpochResampler:
    matched = [i % 2 == 0 for i in range(len(references))] if task == "mnli" else None
    return EpochResampler(task, list(epochs[0]), list(references), matched, [list(epoch) for epoch in epochs])


def by_hand(task: str, references: NDArray[np.float64], epochs: NDArray[np.float64], drawn: NDArray[np.int64]) -> float:
    """The definition, one selection of items and one call of the metric at a time."""
    found = []
    for half in splits(len(references)):
        one, other = drawn[half[drawn]], drawn[~half[drawn]]
        for here, there in ((one, other), (other, one)):
            scores = [glue.score(task, list(epoch[here]), list(references[here])) for epoch in epochs]
            metric = glue.metric_name(task)
            best = max(range(len(epochs)), key=lambda e: scores[e][metric])
            found.append(glue.score(task, list(epochs[best][there]), list(references[there]))[metric])
    return float(np.mean(found))


@pytest.mark.parametrize("task", ["rte", "mnli", "cola", "stsb"])
def test_cross_fitted_is_what_its_definition_gives_for_all_items_and_for_a_resample(task: str) -> None:
    references, epochs = system(task)
    found, metric = resampler(task, references, epochs), glue.metric_name(task)
    for drawn in (np.arange(ITEMS), np.random.default_rng(1).integers(ITEMS, size=ITEMS)):
        scores = found.score(drawn)
        assert scores[f"{metric}-cross-fitted"] == pytest.approx(by_hand(task, references, epochs, drawn), abs=1e-9)
        last = glue.score(task, list(epochs[-1][drawn]), list(references[drawn]))[metric]
        assert scores[f"{metric}-last"] == pytest.approx(last)
        reported = glue.score(task, list(epochs[0][drawn]), list(references[drawn]))[metric]
        assert scores[metric] == pytest.approx(reported)
    assert found.score() == pytest.approx(found.score(np.arange(ITEMS)))


@pytest.mark.parametrize("task", ["rte", "mnli", "cola", "stsb"])
def test_many_selections_at_once_score_as_each_alone(task: str) -> None:
    found = resampler(task, *system(task))
    drawn = np.random.default_rng(2).integers(ITEMS, size=(5, ITEMS))
    drawn[0] = 3  # one item again and again: a half of most splits is empty
    counts = np.stack([np.bincount(row, minlength=ITEMS) for row in drawn]).astype(float)
    for metric, values in found.scores(counts).items():
        alone = [found.score(row).get(metric, np.nan) for row in drawn]
        assert values == pytest.approx(alone, nan_ok=True)


def test_of_epochs_that_are_all_guesses_the_best_looks_good_and_the_cross_fitted_does_not() -> None:
    best, fitted = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        references, epochs = rng.integers(2, size=ITEMS), rng.integers(2, size=(20, ITEMS))
        best.append(100 * max((epoch == references).mean() for epoch in epochs))
        fitted.append(resampler("rte", references.astype(float), epochs.astype(float)).score()["accuracy-cross-fitted"])
    assert np.mean(best) > 58, "the luckiest of twenty"
    assert abs(np.mean(fitted) - 50) < 2


def test_one_epoch_is_not_chosen_so_all_three_scores_are_its() -> None:
    references, epochs = system("rte")
    scores = resampler("rte", references, epochs[:1]).score()
    assert scores["accuracy"] == scores["accuracy-last"]
    assert scores["accuracy-cross-fitted"] == pytest.approx(scores["accuracy"])


def test_a_resample_that_leaves_a_half_empty_has_no_cross_fitted_score() -> None:
    references, epochs = system("rte")
    assert set(resampler("rte", references, epochs).score([3, 3, 3])) == {"accuracy", "accuracy-last"}


def test_the_splits_are_fixed_halves() -> None:
    halves = splits(61)
    assert halves.shape == (SPLITS, 61) and set(halves.sum(axis=1)) == {30}
    assert (halves == splits(61)).all() and len({half.tobytes() for half in halves}) == SPLITS
