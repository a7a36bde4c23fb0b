"""AdaLoRA: the budget ends at its target, resuming, accumulation, export as a LoRA adapter."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.method_models import SPECS, factors_of, logits, model_for, stock_model, trainer_for
from peft import PeftModel

from delta_lora.errors import UserError
from delta_lora.methods.adalora import AdaLora
from delta_lora.methods.adalora_callback import STATE_FILE
from delta_lora.methods.base import Schedule
from delta_lora.methods.lora import Lora

STEPS = 24


def adalora(**arguments: Any) -> AdaLora:
    given = {
        "name": "adalora",
        "learning_rate": 1e-2,
        "init_rank": 6,
        "target_rank": 4,
        "alpha": 32,
        "dropout": 0.0,
    }
    return AdaLora(**(given | arguments))


def kept(method: AdaLora) -> list[int]:
    """Triplets of each layer that are not pruned."""
    return [int(layer.lora_E["default"].count_nonzero()) for layer in method.adapted_layers().values()]


@pytest.mark.parametrize(("family", "target_rank"), [("gpt2", 4), ("gpt2", 1), ("roberta", 4)])
def test_the_budget_ends_at_its_target(family: str, target_rank: int, tmp_path: Path) -> None:
    method = adalora(target_rank=target_rank)
    trainer_for(method, family, tmp_path, STEPS).train()
    assert sum(kept(method)) == target_rank * 4
    without = adalora(target_rank=target_rank)
    trainer = trainer_for(without, family, tmp_path, STEPS)
    for callback in without.callbacks():
        trainer.remove_callback(type(callback))
    trainer.train()
    assert sum(kept(without)) == 6 * 4  # what happens, unnoticed, when nobody calls the allocator


def test_sensitivities_decide_what_is_pruned(tmp_path: Path) -> None:
    """A triplet that the loss cannot feel goes first."""
    method = adalora(target_rank=5)
    trainer = trainer_for(method, "gpt2", tmp_path, STEPS)
    deaf = "transformer.h.0.attn.c_attn.q_proj"
    layer = method.adapted_layers()[deaf]
    for name in ("lora_A", "lora_B", "lora_E"):
        getattr(layer, name)["default"].register_hook(lambda grad: grad * 1e-6)
    trainer.train()
    left = dict(zip(method.adapted_layers(), kept(method), strict=True))
    assert left[deaf] == 2
    assert sum(left.values()) == 5 * 4


@pytest.mark.parametrize("stop", [4, 12, 16])
def test_a_resumed_run_ends_bitwise_as_an_undisturbed_one(stop: int, tmp_path: Path) -> None:
    """Interrupted while warming up, at the last pruning and after it."""
    method = adalora(dropout=0.1)
    trainer_for(method, "gpt2", tmp_path, STEPS, save_strategy="steps", save_steps=4).train()
    whole, pruned = factors_of(method.model), kept(method)
    assert (tmp_path / f"checkpoint-{stop}" / STATE_FILE).is_file()
    resumed = adalora(dropout=0.1)
    trainer = trainer_for(resumed, "gpt2", tmp_path, STEPS)
    trainer.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{stop}"))
    again = factors_of(resumed.model)
    assert kept(resumed) == pruned
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_resuming_without_the_allocator_is_refused(tmp_path: Path) -> None:
    trainer_for(adalora(), "gpt2", tmp_path, STEPS, save_strategy="steps", save_steps=4).train()
    (tmp_path / "checkpoint-8" / STATE_FILE).unlink()
    with pytest.raises(UserError, match=r"cannot resume adalora: .*adalora_state.safetensors is missing"):
        trainer_for(adalora(), "gpt2", tmp_path, STEPS).train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))


def test_micro_batches_do_not_change_the_result(tmp_path: Path) -> None:
    """In float64, so that only a difference in kind can show."""
    runs = []
    for size, accumulation in ((8, 1), (2, 4)):
        method = adalora(orthogonality=0.5)
        trainer = trainer_for(
            method,
            "gpt2",
            tmp_path,
            STEPS,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
        )
        trainer.model.double()
        trainer.train()
        runs.append(factors_of(method.model))
    for name in runs[0]:
        torch.testing.assert_close(runs[0][name], runs[1][name], atol=1e-9, rtol=1e-7)


def test_the_orthogonality_term_is_the_papers(tmp_path: Path) -> None:
    """Its gradient equals that of PEFT's own term in the loss."""
    gradients = []
    for orthogonality in (0.0, 0.3):
        method = adalora(orthogonality=orthogonality)
        trainer = trainer_for(method, "gpt2", tmp_path, STEPS)
        method.peft_model.peft_config["default"].orth_reg_weight = 0.3 - orthogonality
        trainer.callback_handler.on_step_begin(trainer.args, trainer.state, trainer.control)
        batch = torch.stack([model_input["input_ids"] for model_input in trainer.train_dataset])
        method.model.train()(input_ids=batch, labels=batch).loss.backward()
        gradients.append({n: p.grad for n, p in method.model.named_parameters() if p.grad is not None})
    for name in gradients[0]:
        torch.testing.assert_close(gradients[0][name], gradients[1][name], atol=1e-6, rtol=1e-4)
    assert any(gradient.norm() > 1e-3 for name, gradient in gradients[0].items() if "lora_A" in name)


@pytest.mark.parametrize("family", ["gpt2", "roberta", "bart"])
def test_export_is_a_pruned_lora_adapter_for_stock_peft(family: str, tmp_path: Path) -> None:
    method = adalora(target_rank=2)
    trainer_for(method, family, tmp_path, STEPS).train()
    trained = logits(method.model, family)
    assert (trained - logits(stock_model(family), family)).abs().max() > 0.1
    method.export(tmp_path / "adapter")
    stock = PeftModel.from_pretrained(stock_model(family), str(tmp_path / "adapter"))
    torch.testing.assert_close(logits(stock, family), trained, atol=1e-5, rtol=1e-5)
    exported = sum(p.numel() for n, p in stock.named_parameters() if "lora_A" in n) // 32
    assert exported == sum(max(1, rank) for rank in kept(method))
    torch.testing.assert_close(logits(method.merge(), family), trained, atol=1e-4, rtol=1e-4)


def test_a_fresh_adapter_leaves_the_model_as_it_is() -> None:
    for method in (adalora(), Lora(name="lora", learning_rate=1e-2, rank=4, alpha=32)):
        method.prepare(model_for("gpt2"), SPECS["gpt2"], Schedule(STEPS, 0))
        torch.testing.assert_close(logits(method.model), logits(stock_model("gpt2")))


@pytest.mark.parametrize(
    ("arguments", "steps", "message"),
    [
        (
            {"target_rank": 8},
            100,
            "method.target_rank must be an integer from 1 to 5 (below method.init_rank), got 8",
        ),
        ({"target_rank": 6}, 100, "from 1 to 5"),
        ({"target_rank": 0}, 100, "got 0"),
        ({"init_rank": 64}, 100, "method.init_rank must be an integer from 2 to 32"),
        ({"init_rank": 6.0}, 100, "got 6.0"),
        (
            {"warmup_fraction": 0.6},
            100,
            "of 100 steps, 60 warm up (method.warmup_fraction=0.6) and 50 are final",
        ),
        ({}, 1, "no step left to prune in: of 1 steps"),
        ({"final_fraction": 1}, 100, "method.final_fraction must be a number > 0 and < 1, got 1"),
        ({"orthogonality": float("nan")}, 100, "method.orthogonality must be a number ≥ 0, got nan"),
        ({"beta1": 1.0}, 100, "method.beta1 must be a number > 0 and < 1, got 1.0"),
        ({"interval_fraction": "often"}, 100, "got 'often'"),
    ],
)
def test_bad_arguments_are_one_clear_line(arguments: dict[str, Any], steps: int, message: str) -> None:
    with pytest.raises(UserError) as caught:
        adalora(**arguments).validate(32, steps)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_schedule_is_in_steps() -> None:
    adalora().validate(32, 26_290)
    assert adalora().steps(26_290) == (2629, 13_145, 39)
    adalora().validate(32, 2)
    assert adalora().steps(2) == (0, 1, 1)
