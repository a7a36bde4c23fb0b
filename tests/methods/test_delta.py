"""Delta-LoRA as a method: what W does in a real Trainer run, counts, merging, export, resuming, arguments."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.method_models import SCHEDULE, SPECS, factors_of, logits, model_for, real_model, stock_model, trainer_for
from peft import PeftModel

from delta_lora.errors import UserError
from delta_lora.methods.base import Counts
from delta_lora.methods.delta_lora import DeltaLoraMethod
from delta_lora.methods.lora import Lora

STEPS, K = 12, 4


def delta_lora(**arguments: Any) -> DeltaLoraMethod:
    given = {
        "name": "delta-lora",
        "learning_rate": 1e-2,
        "rank": 4,
        "alpha": 8,
        "update_ratio": 2,
        "start_steps": K,
    }
    return DeltaLoraMethod(**(given | arguments))


VARIANTS = [{}, {"literal": True}, {"literal": True, "dropout": 0.1}]


@pytest.mark.parametrize("literal", [False, True])
@pytest.mark.parametrize(
    ("family", "rank", "extra"),
    [("gpt2", 4, 50_331_648), ("roberta", 8, 14_155_776), ("bart", 4, 75_497_472)],
)
def test_counts_on_the_real_configurations(family: str, rank: int, extra: int, literal: bool) -> None:
    """The paper's M is 2²⁰: 48 M, 13.5 M and 72 M."""
    method = delta_lora(rank=rank, literal=literal)
    method.prepare(real_model(family), SPECS[family], SCHEDULE)
    trainable = {"gpt2": 393_216, "roberta": 294_912, "bart": 589_824}[family]
    assert method.counts() == Counts(trainable, extra, head=592_130 if family == "roberta" else 0)
    method.update_ratio = 0
    assert method.counts().extra_updatable == 0


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", ["gpt2", "roberta", "bart"])
def test_a_trained_model_exports_to_stock_peft_and_merges(family: str, variant: dict[str, Any], tmp_path: Path) -> None:
    method = delta_lora(**variant)
    method.validate(32, STEPS)
    trainer_for(method, family, tmp_path, STEPS).train()
    trained = logits(method.model, family)
    method.export(tmp_path / "adapter")
    stock = PeftModel.from_pretrained(stock_model(family), str(tmp_path / "adapter"))
    torch.testing.assert_close(logits(stock, family), trained, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(logits(method.merge(), family), trained, atol=1e-4, rtol=1e-4)
    with pytest.raises(RuntimeError, match="no prepared model"):
        method.counts()


def test_w_has_moved_and_folded_equals_literal(tmp_path: Path) -> None:
    outputs = []
    for variant in ({}, {"literal": True}, {"update_ratio": 0}):
        method = delta_lora(**variant)
        trainer = trainer_for(method, "gpt2", tmp_path, STEPS)
        trainer.model.double()
        trainer.train()
        outputs.append(logits(method.model))
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-9, rtol=1e-9)
    assert (outputs[0] - outputs[2]).abs().max() > 0.01


def test_update_ratio_zero_is_lora(tmp_path: Path) -> None:
    runs = []
    for method in (
        delta_lora(update_ratio=0),
        Lora(name="lora", learning_rate=1e-2, rank=4, alpha=8, dropout=0.0),
    ):
        trainer_for(method, "gpt2", tmp_path, STEPS).train()
        runs.append(logits(method.model))
    assert torch.equal(runs[0], runs[1])


@pytest.mark.parametrize("stop", [3, 6, 9])
def test_a_resumed_run_ends_bitwise_as_an_undisturbed_one(stop: int, tmp_path: Path) -> None:
    method = delta_lora()
    trainer_for(method, "gpt2", tmp_path, STEPS, save_strategy="steps", save_steps=3).train()
    whole, output = factors_of(method.model), logits(method.model)
    resumed = delta_lora()
    trainer = trainer_for(resumed, "gpt2", tmp_path, STEPS)
    trainer.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{stop}"))
    assert all(torch.equal(whole[name], value) for name, value in factors_of(resumed.model).items())
    assert torch.equal(output, logits(resumed.model))


def test_an_untrained_method_exports_an_update_of_nothing(tmp_path: Path) -> None:
    method = delta_lora()
    method.prepare(model_for("gpt2"), SPECS["gpt2"], SCHEDULE)
    method.export(tmp_path)
    stock = PeftModel.from_pretrained(stock_model("gpt2"), str(tmp_path))
    assert torch.equal(logits(stock), logits(stock_model("gpt2")))


@pytest.mark.parametrize(
    ("arguments", "steps", "message"),
    [
        ({"update_ratio": -1}, 100, "method.update_ratio must be a finite number ≥ 0, got -1"),
        ({"update_ratio": float("nan")}, 100, "got nan"),
        ({"update_ratio": float("inf")}, 100, "got inf"),
        ({"update_ratio": "2"}, 100, "got '2'"),
        ({"start_steps": -1}, 100, "method.start_steps must be an integer ≥ 0, got -1"),
        ({"start_steps": 1.5}, 100, "got 1.5"),
        (
            {"start_steps": 99},
            100,
            "beyond the run's 100 steps: W would never move, which is LoRA; give at most 98",
        ),
        ({"start_steps": 0}, 1, "train for at least 2 steps"),
        ({"dropout": 0.1}, 100, "method.dropout=0.1 needs method.literal=true"),
        ({"literal": 1}, 100, "method.literal must be true or false, got 1"),
        ({"rank": 0}, 100, "method.rank must be an integer from 1 to 32"),
    ],
)
def test_bad_arguments_are_one_clear_line(arguments: dict[str, Any], steps: int, message: str) -> None:
    with pytest.raises(UserError) as caught:
        delta_lora(**arguments).validate(32, steps)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_last_allowed_start_moves_w_once(tmp_path: Path) -> None:
    method = delta_lora(start_steps=STEPS - 2, literal=True)
    method.validate(32, STEPS)
    trainer = trainer_for(method, "gpt2", tmp_path, STEPS)
    layer = next(iter(method.adapted_layers().values()))
    before = layer.get_base_layer().weight.clone()
    trainer.train()
    assert not torch.equal(before, layer.get_base_layer().weight)
