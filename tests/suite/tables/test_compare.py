"""The paired bootstrap: intervals as statistics says, seeded, over items and seeds; nothing is compared unpaired."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delta_lora.errors import UserError
from delta_lora.metrics.base import Resampler
from delta_lora.metrics.glue import GlueResampler
from delta_lora.suite.records.records import Run, run_folder, write_jsonl, write_record
from delta_lora.suite.tables.compare import Gain, PairedBootstrap, resampler_of

ITEMS = 1500


def rte_run(results: Path, key: str, right: np.ndarray, **changes: Any) -> Run:
    """A run on RTE that got the items right where ``right`` says so."""
    rows = [{"id": i, "prediction": int(good), "references": ["1"]} for i, good in enumerate(right)]
    write_jsonl(run_folder(results, key) / "predictions.jsonl", rows)
    record = {
        "key": key,
        "config": {"task": {"name": "glue/rte", "_target_": "delta_lora.tasks.glue.Glue"}},
        "metrics": {"accuracy": 100 * float(right.mean())},
        "counts": {},
        "train": {},
        "environment": {},
    }
    return write_record(run_folder(results, key), record | changes)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Run, Run]:
    """Two correlated systems: 80 % and about 77 % right, mostly on the same items."""
    rng = np.random.default_rng(1)
    better = rng.random(ITEMS) < 0.8
    worse = np.where(rng.random(ITEMS) < 0.1, rng.random(ITEMS) < 0.5, better)
    return rte_run(tmp_path, "better", better), rte_run(tmp_path, "worse", worse)


def gain(left: Run, right: Run, **settings: Any) -> Gain:
    found = PairedBootstrap(resampler_of, None, **settings).gain({1: left}, {1: right}, "accuracy")
    assert found is not None
    return found


def test_the_interval_is_that_of_a_paired_difference(pair: tuple[Run, Run]) -> None:
    right = [np.array([line["prediction"] for line in run.predictions()]) for run in pair]
    difference = 100 * (right[0] - right[1])
    half = 1.96 * difference.std() / math.sqrt(ITEMS)  # of the normal approximation
    found = gain(*pair)
    assert found.difference == pytest.approx(difference.mean())
    assert found.low == pytest.approx(difference.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(difference.mean() + half, abs=0.15 * half)


def test_equal_seeds_draw_the_same_resamples(pair: tuple[Run, Run]) -> None:
    assert gain(*pair) == gain(*pair)
    assert gain(*pair) != gain(*pair, seed=1)


def test_a_low_score_can_be_the_good_one(pair: tuple[Run, Run]) -> None:
    bootstrap = PairedBootstrap(resampler_of, None)
    as_errors = bootstrap.gain({1: pair[0]}, {1: pair[1]}, "accuracy", sign=-1)
    assert as_errors is not None
    assert as_errors.difference == -gain(*pair).difference
    assert as_errors.verdict == "not reproduced"


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.1, 2.0, "reproduced"), (-0.1, 2.0, "within noise"), (-2.0, -0.1, "not reproduced")]
)
def test_the_verdict_follows_from_the_interval(low: float, high: float, verdict: str) -> None:
    assert Gain(1.0, low, high, 1).verdict == verdict


def test_runs_that_answer_alike_are_within_noise(pair: tuple[Run, Run]) -> None:
    assert gain(pair[0], pair[0]) == Gain(0.0, 0.0, 0.0, 1)
    assert gain(pair[0], pair[0]).verdict == "within noise"


def test_seeds_that_disagree_widen_the_interval(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    runs = {name: rte_run(tmp_path, name, rng.random(ITEMS) < rate) for name, rate in (("a", 0.9), ("b", 0.7))}
    base = rte_run(tmp_path, "base", rng.random(ITEMS) < 0.8)
    found = PairedBootstrap(resampler_of, None).gain(
        {1: runs["a"], 2: runs["b"]}, {1: base, 2: base, 3: runs["a"]}, "accuracy"
    )
    assert found is not None
    assert found.seeds == 2
    assert abs(found.difference) < 2
    assert found.low < -8  # as when both draws are seed 2, where it loses 10 points
    assert found.high > 8


def test_without_a_common_seed_there_is_nothing_to_compare(pair: tuple[Run, Run]) -> None:
    assert PairedBootstrap(resampler_of, None).gain({1: pair[0]}, {2: pair[1]}, "accuracy") is None


def test_runs_on_different_items_are_not_compared(tmp_path: Path) -> None:
    long = rte_run(tmp_path, "long", np.ones(10, dtype=bool))
    short = rte_run(tmp_path, "short", np.ones(9, dtype=bool))
    with pytest.raises(UserError, match="runs long and short are of different test items"):
        gain(long, short)


def counted(calls: list[str]) -> Callable[[Run], Resampler]:
    def build(run: Run) -> Resampler:
        calls.append(run.key)
        return resampler_of(run)

    return build


def test_a_run_is_scored_once_and_kept(tmp_path: Path, pair: tuple[Run, Run]) -> None:
    calls: list[str] = []
    kept = tmp_path / "kept"
    first = PairedBootstrap(counted(calls), kept).gain({1: pair[0]}, {1: pair[1]}, "accuracy")
    again = PairedBootstrap(counted(calls), kept).gain({1: pair[0]}, {1: pair[1]}, "accuracy")
    assert first == again
    assert sorted(calls) == ["better", "worse"]


@pytest.mark.parametrize("damage", ["", "[]", '{"accuracy": [1.0]}', '{"accuracy": ["x"]}', "{"])
def test_damaged_scores_are_made_again(tmp_path: Path, pair: tuple[Run, Run], damage: str) -> None:
    kept = tmp_path / "kept"
    first = PairedBootstrap(resampler_of, kept).gain({1: pair[0]}, {1: pair[1]}, "accuracy")
    for path in kept.iterdir():
        path.write_text(damage, encoding="utf-8")
    assert PairedBootstrap(resampler_of, kept).gain({1: pair[0]}, {1: pair[1]}, "accuracy") == first


def test_kept_scores_of_which_a_digit_changed_are_made_again(tmp_path: Path, pair: tuple[Run, Run]) -> None:
    kept = tmp_path / "kept"
    first = PairedBootstrap(resampler_of, kept).gain({1: pair[0]}, {1: pair[1]}, "accuracy")
    for path in kept.iterdir():
        path.write_text(path.read_text(encoding="utf-8").replace("7", "9"), encoding="utf-8")
    assert PairedBootstrap(resampler_of, kept).gain({1: pair[0]}, {1: pair[1]}, "accuracy") == first


class Parts:
    """Scores of all items, and of a part that has one item: few resamples of three items draw it."""

    size = 3

    def __init__(self, score: float) -> None:
        self.value = score

    def score(self, indices: Any = None) -> dict[str, float]:
        return {"A": self.value} | ({"U": self.value} if indices is None or 0 in indices else {})


def test_a_part_that_a_resample_did_not_draw_is_left_out_of_it(tmp_path: Path, pair: tuple[Run, Run]) -> None:
    """As WebNLG's unseen categories where few of the test set are scored."""
    better, worse = (rte_run(tmp_path, run.key, np.ones(3, dtype=bool), metrics={"U": 2.0}) for run in pair)
    parts: dict[str, Resampler] = {better.key: Parts(2.0), worse.key: Parts(1.0)}
    bootstrap = PairedBootstrap(lambda run: parts[run.key], None)
    assert 0 < np.isnan(bootstrap.scores(better)["U"]).sum() < 1000
    assert not np.isnan(bootstrap.scores(better)["A"]).any()
    assert bootstrap.gain({1: better}, {1: worse}, "U") == Gain(0.0, 1.0, 1.0, 1)


def test_predictions_of_another_kind_are_a_clear_error(tmp_path: Path) -> None:
    run = rte_run(tmp_path, "odd", np.ones(3, dtype=bool))
    (run.path / "predictions.jsonl").write_text('{"id": 0, "prediction": "a pub"}\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"predictions\.jsonl cannot be read as predictions of glue/rte"):
        resampler_of(run)


XSUM = {"references": ["A pub opened."], "prediction": "A pub opened."}
WEBNLG = {"references": ["A pub opened."], "prediction": "A pub closed.", "seen": True}


def test_each_task_is_resampled_by_its_own_metrics(tmp_path: Path, pair: tuple[Run, Run]) -> None:
    assert isinstance(resampler_of(pair[0]), GlueResampler)
    write_jsonl(run_folder(tmp_path, "xsum") / "predictions.jsonl", [{"id": 0, **XSUM}])
    record = {
        "key": "xsum",
        "config": {"task": {"name": "xsum", "_target_": "delta_lora.tasks.xsum.XSum"}},
        "metrics": {},
        "counts": {},
    }
    run = write_record(run_folder(tmp_path, "xsum"), {**record, "train": {}, "environment": {}})
    assert resampler_of(run).score() == pytest.approx(
        dict.fromkeys(["Rouge-1", "Rouge-2", "Rouge-L", "Rouge-Sum"], 100)
    )
