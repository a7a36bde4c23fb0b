"""Runs on shared draws of the test items: intervals as statistics says, seeded; nothing is compared unpaired."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delta_lora.errors import UserError
from delta_lora.metrics.base import Resampler
from delta_lora.metrics.glue import GlueResampler
from delta_lora.metrics.webnlg import WebNLGResampler
from delta_lora.suite.records.records import Run, run_folder, write_jsonl, write_record
from delta_lora.suite.tables import compare
from delta_lora.suite.tables.compare import PairedBootstrap, draws, resampler_of
from delta_lora.suite.tables.gain import Gain

ITEMS = 500


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
    found = PairedBootstrap(resampler_of, None, **settings).gain([{1: left}], [{1: right}], "accuracy")
    assert found is not None
    return found


def test_the_interval_is_that_of_a_paired_difference(pair: tuple[Run, Run]) -> None:
    right = [np.array([line["prediction"] for line in run.predictions()]) for run in pair]
    difference = 100 * (right[0] - right[1])
    half = 1.96 * difference.std() / math.sqrt(ITEMS)  # of the normal approximation
    found = gain(*pair)
    assert found.difference == pytest.approx(difference.mean())
    assert found.interval == pytest.approx((difference.mean() - half, difference.mean() + half), abs=0.03 * half)
    assert (found.seeds, found.items) == (1, ITEMS)


def test_equal_seeds_draw_the_same_resamples(pair: tuple[Run, Run]) -> None:
    assert gain(*pair) == gain(*pair)
    assert gain(*pair) != gain(*pair, seed=1)


def test_a_low_score_can_be_the_good_one(pair: tuple[Run, Run]) -> None:
    bootstrap = PairedBootstrap(resampler_of, None)
    as_errors = bootstrap.gain([{1: pair[0]}], [{1: pair[1]}], "accuracy", sign=-1)
    assert as_errors is not None
    assert as_errors.difference == -gain(*pair).difference


def test_runs_that_answer_alike_differ_in_nothing(pair: tuple[Run, Run]) -> None:
    assert gain(pair[0], pair[0]) == Gain((0.0,), 0.0, ITEMS, 0.0)


def test_the_items_error_is_of_the_mean_over_seeds_on_shared_draws(tmp_path: Path) -> None:
    """Errors of one seed that another does not share cancel in part; what all seeds share does not."""
    rng = np.random.default_rng(2)
    right = {name: rng.random(ITEMS) < rate for name, rate in (("a", 0.9), ("b", 0.7), ("base", 0.8))}
    runs = {name: rte_run(tmp_path, name, values) for name, values in right.items()}
    base = runs["base"]
    found = PairedBootstrap(resampler_of, None).gain(
        [{1: runs["a"], 2: runs["b"]}], [{1: base, 2: base, 3: runs["a"]}], "accuracy"
    )
    assert found is not None and found.seeds == 2
    of_items = 100 * ((right["a"] + right["b"].astype(float)) / 2 - right["base"])
    assert found.item_variance == pytest.approx(of_items.var() / ITEMS, rel=0.05)
    assert found.by_seed == pytest.approx([100 * (right[name].mean() - right["base"].mean()) for name in ("a", "b")])


def test_a_contrast_is_of_the_rows_means(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rates = {"a": 0.9, "b": 0.7, "c": 0.6, "d": 0.5}
    runs = {name: rte_run(tmp_path, name, rng.random(ITEMS) < rate) for name, rate in rates.items()}
    found = PairedBootstrap(resampler_of, None).gain(
        [{1: runs["a"]}, {1: runs["b"]}], [{1: runs["c"]}, {1: runs["d"]}, {2: runs["a"], 1: runs["d"]}], "accuracy"
    )
    score = {name: run.metrics["accuracy"] for name, run in runs.items()}
    assert found is not None
    expected = (score["a"] + score["b"]) / 2 - (score["c"] + 2 * score["d"]) / 3
    assert found.by_seed == pytest.approx([expected])


class Strata(Resampler):
    """Items of two parts; the scores say how many of a draw are of each."""

    size = 100

    def __init__(self, strata: bool) -> None:
        self.part = (np.arange(100) < 3).astype(np.intp)
        self.strata = self.part if strata else None

    def score(self, indices: Any = None) -> dict[str, float]:
        raise NotImplementedError

    def scores(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        return {"unseen": counts @ self.part, "all": counts.sum(axis=1)}


@pytest.mark.parametrize("strata", [True, False])
def test_draws_keep_the_number_of_each_part(tmp_path: Path, strata: bool) -> None:
    run = rte_run(tmp_path, "one", np.ones(100, dtype=bool))
    scores = PairedBootstrap(lambda run: Strata(strata), None).scores(run)
    assert len(scores["all"]) == 10_000 and set(scores["all"]) == {100}
    assert (set(scores["unseen"]) == {3}) == strata


def test_webnlg_is_drawn_by_seen_and_unseen() -> None:
    resampler = WebNLGResampler(["a pub"] * 3, [["a pub"]] * 3, [True, False, True])
    assert resampler.strata is not None
    for counts in draws(resampler, 50, seed=0):
        assert set(counts[:, 1]) == {1.0} and set(counts[:, [0, 2]].sum(axis=1)) == {2.0}


def test_without_a_common_seed_there_is_nothing_to_compare(pair: tuple[Run, Run]) -> None:
    assert PairedBootstrap(resampler_of, None).gain([{1: pair[0]}], [{2: pair[1]}], "accuracy") is None


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
    first = PairedBootstrap(counted(calls), kept).gain([{1: pair[0]}], [{1: pair[1]}], "accuracy")
    again = PairedBootstrap(counted(calls), kept).gain([{1: pair[0]}], [{1: pair[1]}], "accuracy")
    assert first == again
    assert sorted(calls) == ["better", "worse"]


def test_kept_scores_are_of_one_version_of_the_metrics(
    tmp_path: Path, pair: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    PairedBootstrap(counted(calls), tmp_path / "kept").scores(pair[0])
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "bleu.py").write_text("smoothing = True\n", encoding="utf-8")
    monkeypatch.setattr("delta_lora.metrics.__path__", [str(tmp_path / "metrics")])
    compare.metric_version.cache_clear()
    try:
        PairedBootstrap(counted(calls), tmp_path / "kept").scores(pair[0])
    finally:
        compare.metric_version.cache_clear()
    assert calls == ["better", "better"]


@pytest.mark.parametrize("damage", ["", "[]", '{"accuracy": [1.0]}', '{"accuracy": ["x"]}', "{"])
def test_damaged_scores_are_made_again(tmp_path: Path, pair: tuple[Run, Run], damage: str) -> None:
    kept = tmp_path / "kept"
    first = PairedBootstrap(resampler_of, kept).gain([{1: pair[0]}], [{1: pair[1]}], "accuracy")
    for path in kept.iterdir():
        path.write_text(damage, encoding="utf-8")
    assert PairedBootstrap(resampler_of, kept).gain([{1: pair[0]}], [{1: pair[1]}], "accuracy") == first


def test_kept_scores_of_which_a_digit_changed_are_made_again(tmp_path: Path, pair: tuple[Run, Run]) -> None:
    kept = tmp_path / "kept"
    first = PairedBootstrap(resampler_of, kept).gain([{1: pair[0]}], [{1: pair[1]}], "accuracy")
    for path in kept.iterdir():
        path.write_text(path.read_text(encoding="utf-8").replace("7", "9"), encoding="utf-8")
    assert PairedBootstrap(resampler_of, kept).gain([{1: pair[0]}], [{1: pair[1]}], "accuracy") == first


class Parts(Resampler):
    """Scores of all items, and of a part that has one item: few draws of three items have it."""

    size = 3

    def __init__(self, score: float) -> None:
        self.value = score

    def score(self, indices: Any = None) -> dict[str, float]:
        return {"A": self.value} | ({"U": self.value} if indices is None or 0 in indices else {})


def test_a_part_that_a_draw_does_not_have_is_left_out_of_it(tmp_path: Path, pair: tuple[Run, Run]) -> None:
    better, worse = (rte_run(tmp_path, run.key, np.ones(3, dtype=bool), metrics={"U": 2.0}) for run in pair)
    parts = {better.key: Parts(2.0), worse.key: Parts(1.0)}
    bootstrap = PairedBootstrap(lambda run: parts[run.key], None, resamples=1000)
    assert 0 < np.isnan(bootstrap.scores(better)["U"]).sum() < 1000
    assert not np.isnan(bootstrap.scores(better)["A"]).any()
    assert bootstrap.gain([{1: better}], [{1: worse}], "U") == Gain((0.0,), 0.0, 3, 0.0)


def test_predictions_of_another_kind_are_a_clear_error(tmp_path: Path) -> None:
    run = rte_run(tmp_path, "odd", np.ones(3, dtype=bool))
    (run.path / "predictions.jsonl").write_text('{"id": 0, "prediction": "a pub"}\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"predictions\.jsonl cannot be read as predictions of glue/rte"):
        resampler_of(run)


def test_predictions_that_are_no_text_are_a_clear_error(tmp_path: Path) -> None:
    run = rte_run(tmp_path, "odd", np.ones(3, dtype=bool))
    (run.path / "predictions.jsonl").write_bytes(b"\x91")
    with pytest.raises(UserError, match=r"predictions\.jsonl cannot be read .*delete the run's folder"):
        PairedBootstrap(resampler_of, None).scores(run)


XSUM = {"references": ["A pub opened."], "prediction": "A pub opened."}
WEBNLG = {"references": ["A pub opened."], "prediction": "A pub closed.", "seen": True}


def test_each_task_is_resampled_by_its_own_metrics(tmp_path: Path, pair: tuple[Run, Run]) -> None:
    assert isinstance(resampler_of(pair[0]), GlueResampler)
    write_jsonl(run_folder(tmp_path, "xsum") / "predictions.jsonl", [{"id": 0, **XSUM}])
    record = {
        "key": "xsum",
        "config": {"task": {"name": "xsum", "_target_": "delta_lora.tasks.xsum.XSum", "metrics": ["Rouge-1"]}},
        "metrics": {},
        "counts": {},
    }
    run = write_record(run_folder(tmp_path, "xsum"), {**record, "train": {}, "environment": {}})
    assert resampler_of(run).score() == pytest.approx(
        dict.fromkeys(["Rouge-1", "Rouge-2", "Rouge-L", "Rouge-Sum"], 100)
    )
