"""The cosine of Δ(BA) and −∇W: the dense gradient is the one that W would have, and a run that is asked logs it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.method_models import trainer_for
from omegaconf import DictConfig
from transformers import TrainerCallback

from delta_lora.errors import UserError
from delta_lora.methods.lora import Lora
from delta_lora.methods.peft_method import ADAPTER
from delta_lora.suite.config.cell import build_cell
from delta_lora.suite.records.records import read_jsonl
from delta_lora.suite.run.alignment import ALIGNMENT, Alignment
from delta_lora.suite.run.recipe import run_cell

STEPS = 4


@pytest.mark.parametrize("accumulate", [1, 2])
def test_it_is_the_cosine_with_the_gradient_that_autograd_gives_w(tmp_path: Path, accumulate: int) -> None:
    method = Lora(name="lora", learning_rate=1e-2, rank=4, alpha=8.0, dropout=0.0)
    trainer = trainer_for(
        method, "gpt2", tmp_path, STEPS, gradient_accumulation_steps=accumulate, per_device_train_batch_size=4
    )
    expected: list[dict[str, float]] = []

    class ByAutograd(TrainerCallback):
        """W learns nothing (it is in no optimizer) but has a gradient."""

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            self.before = {name: self.product(layer) for name, layer in layers.items()}
            for layer in layers.values():
                layer.base_layer.weight.requires_grad_(True)

        def on_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
            found = {}
            for name, layer in layers.items():
                moved, gradient = self.product(layer) - self.before[name], layer.base_layer.weight.grad
                found[name] = float(torch.nn.functional.cosine_similarity(moved.flatten(), -gradient.flatten(), dim=0))
                layer.base_layer.weight.grad = None
            expected.append(found)

        @staticmethod
        def product(layer: Any) -> torch.Tensor:
            return (layer.lora_B[ADAPTER].weight @ layer.lora_A[ADAPTER].weight).detach().clone()

    watch = Alignment(method, trainer, every=2)
    layers: dict[str, Any] = watch.layers
    assert [name.rpartition(".")[2] for name in layers] == ["q_proj", "v_proj"] and "h.0" in next(iter(layers))
    trainer.add_callback(ByAutograd())
    trainer.add_callback(watch)
    trainer.train()
    logged = [row for row in trainer.state.log_history if any(name.startswith(ALIGNMENT) for name in row)]
    assert len(logged) == 2, "steps 0 and 2 of four"
    for row, truth in zip(logged, expected[::2], strict=True):
        assert {name: row[f"{ALIGNMENT}{name}"] for name in layers} == pytest.approx(truth, abs=1e-4)
        assert all(-1 <= cosine <= 1 for cosine in truth.values())
    assert not any(layer._forward_hooks for layer in layers.values())


@pytest.mark.usefixtures("quick_scores")
def test_a_run_that_asks_has_it_in_its_log_and_is_the_same_run(
    short: Callable[..., DictConfig], tmp_path: Path
) -> None:
    plain, asked = short("method=delta-lora"), short("method=delta-lora", "task.train.alignment_steps=10")
    assert build_cell(plain).key == build_cell(asked).key
    run = run_cell(asked)
    assert run is not None
    rows = [row for row in read_jsonl(run.path / "log.jsonl") if any(name.startswith(ALIGNMENT) for name in row)]
    assert [row["step"] for row in rows] == [10, 20], "step 0 has a rate of 0, and moves nothing"
    assert all(len([name for name in row if ALIGNMENT in name]) == 2 for row in rows)
    asked.results_dir = plain.results_dir = str(tmp_path / "again")
    again = run_cell(plain)
    assert again is not None and again.predictions() == run.predictions()
    assert again.train["final_loss"] == run.train["final_loss"]


def test_a_method_without_a_product_is_refused(short: Callable[..., DictConfig]) -> None:
    with pytest.raises(UserError, match="method=full has none; set it to null, or use LoRA, DyLoRA or Delta-LoRA"):
        build_cell(short("method=full", "task.train.alignment_steps=10"))
