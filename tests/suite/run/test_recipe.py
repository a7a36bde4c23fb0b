"""A cell end to end on a small GPT-2: it learns, is recorded, is found again, and survives an interruption."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.runs import METHODS, Died, elsewhere, interrupted
from omegaconf import DictConfig

from delta_lora.suite.records.records import Run, read_jsonl
from delta_lora.suite.run import recipe
from delta_lora.suite.run.recipe import run_cell
from delta_lora.suite.run.trainer import SuiteTrainer

pytestmark = pytest.mark.usefixtures("quick_scores")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_goes_from_configuration_to_record(
    short: Callable[..., DictConfig],
    method: str,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    config = short(f"method={method}")
    run = run_cell(config)
    if "all_metrics" in request.keywords:
        assert set(run.metrics) == {"BLEU", "NIST", "METEOR", "ROUGE-L", "CIDEr"}
    assert run.train["steps"] == 24
    assert run.counts["trainable"] > 0
    assert (run.counts["extra_updatable"] > 0) == method.startswith("delta-lora")
    log = [row for row in read_jsonl(run.path / "log.jsonl") if "loss" in row]
    assert log[-1]["loss"] < log[0]["loss"], "it learned nothing"
    assert all({"learning_rate", "examples_per_second", "peak_memory_bytes"} <= set(row) for row in log)
    assert [row["id"] for row in run.predictions()] == [i * 80 // 6 for i in range(6)], "spread over the 80"
    assert not (run.path / "checkpoints").exists()
    assert (run.path / "adapter" / "adapter_model.safetensors").exists() == (method[:2] not in ("fu", "ft"))

    again = run_cell(config)
    assert again.train == run.train
    assert "already finished" in capsys.readouterr().out


def same(one: Run, other: Run) -> None:
    """Bitwise the same training and the same texts."""
    losses = [[row["loss"] for row in read_jsonl(run.path / "log.jsonl") if "loss" in row] for run in (one, other)]
    assert losses[0] == losses[1]
    assert one.predictions() == other.predictions()
    assert one.metrics == other.metrics


CONTROLS = ["controls/no-anchor", "controls/no-hook", "controls/slow-start"]


@pytest.mark.parametrize("method", ["full", "lora", "dylora", "adalora", "delta-lora", "delta-lora-dropout", *CONTROLS])
def test_an_interrupted_run_ends_as_the_undisturbed_one(
    short: Callable[..., DictConfig], method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = short(f"method={method}", "task.train.save_steps=4")
    whole = run_cell(config)
    resumed = elsewhere(config, tmp_path / "resumed")
    interrupted(resumed, 7, monkeypatch)  # in the first epoch, past K
    interrupted(resumed, 14, monkeypatch)  # in the second
    same(whole, run_cell(resumed))


def test_a_run_interrupted_past_its_last_step_makes_no_further_one(
    short: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last step lies within an epoch, where the Trainer looks for the end only after a step."""
    config = short("method=adalora", "task.train.max_steps=10")
    whole = run_cell(config)
    resumed = elsewhere(config, tmp_path / "resumed")
    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(recipe, "decode_items", die)
        run_cell(resumed)
    monkeypatch.setattr(SuiteTrainer, "training_step", die)
    run = run_cell(resumed)
    same(whole, run)
    assert (run.train["steps"], run.train["resumed_from_step"]) == (10, 0), "what it says is of the training itself"


def die(*_: object) -> None:
    raise Died


def test_accumulated_micro_batches_take_as_many_steps(short: Callable[..., DictConfig], tmp_path: Path) -> None:
    run = run_cell(short("method=lora", "task.train.micro_batch_size=2"))
    assert run.train["steps"] == 24


def test_the_order_of_the_data_depends_on_seed_and_epoch_alone() -> None:
    from delta_lora.suite.run.batches import EpochSampler

    lengths = [i % 7 for i in range(50)]
    order = lambda seed, epoch: list(EpochSampler(lengths, 4, seed, lambda: epoch, True))  # noqa: E731
    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
    assert sorted(order(1, 0)) == list(range(50))
