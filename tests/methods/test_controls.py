"""The controls: each is Delta-LoRA or LoRA but for the one thing that it isolates, and all else is equal."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.method_models import GPT2, model_for, trainer_for
from omegaconf import DictConfig
from torch import Tensor
from transformers import TrainerCallback, set_seed

from delta_lora import layers
from delta_lora.anchor import Fold, LiveBranch
from delta_lora.errors import UserError
from delta_lora.methods.base import Method, Schedule
from delta_lora.methods.control_parts import Ablation
from delta_lora.methods.controls import DeltaLoraAblation, SlowStartLora
from delta_lora.methods.delta_lora import DeltaLoraMethod
from delta_lora.methods.lora import Lora
from delta_lora.methods.peft_method import ADAPTER, PeftMethod
from delta_lora.suite.config.cell import build_method
from delta_lora.suite.config.grid import GridCell, compose_grid

K, RATIO, STEPS = 2, 2.0, 8
SHARED: dict[str, Any] = {"learning_rate": 1e-2, "rank": 4, "alpha": 8.0, "dropout": 0.0}


def ablation(without: str, **changes: Any) -> DeltaLoraAblation:
    moving = {"update_ratio": RATIO, "start_steps": K, "without": without}
    return DeltaLoraAblation(name=without, **SHARED | moving | changes)  # type: ignore[arg-type]


def learned(method: PeftMethod, folder: Path, callback: TrainerCallback | None = None) -> dict[str, Tensor]:
    """W − W_0 of each adapted weight after `STEPS` steps of a real Trainer."""
    trainer = trainer_for(method, "gpt2", folder, STEPS)
    if callback is not None:
        trainer.add_callback(callback)
    trainer.train()
    return {name: update.b @ update.a for name, update in method.learned().items()}


class AtK(TrainerCallback):
    """Does something to every adapted layer after step K+1, by hand."""

    def __init__(self, method: PeftMethod, act: Callable[[layers.AdaptedLayer], Any]) -> None:
        self.method, self.act = method, act

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == K:
            for layer in layers.adapted_layers(self.method.peft_model, ADAPTER):
                self.act(layer)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.allclose(one[name], other[name], rtol=1e-4, atol=1e-5) for name in one)


def test_without_the_anchor_is_the_larger_scale_with_the_hook_and_no_fold(tmp_path: Path) -> None:
    plain = Lora(name="lora", **SHARED)
    by_hand = learned(plain, tmp_path, AtK(plain, lambda layer: LiveBranch(layer, RATIO)))
    found = learned(ablation("anchor"), tmp_path)
    assert same(found, by_hand)
    assert not same(found, learned(DeltaLoraMethod(name="d", update_ratio=RATIO, start_steps=K, **SHARED), tmp_path))


def test_without_the_hook_is_the_fold_alone(tmp_path: Path) -> None:
    plain, anchors = Lora(name="lora", **SHARED), {}

    def fold(layer: layers.AdaptedLayer) -> None:
        anchors[layer.name] = layer.snapshot()
        Fold(layer, RATIO, *anchors[layer.name]).live.remove_hooks()

    branch = learned(plain, tmp_path, AtK(plain, fold))  # at (1+λ)s
    by_hand = {name: update - RATIO * 2 * anchors[name][1] @ anchors[name][0] for name, update in branch.items()}
    found = learned(ablation("hook"), tmp_path)
    assert same(found, by_hand)
    assert not same(found, learned(DeltaLoraMethod(name="d", update_ratio=RATIO, start_steps=K, **SHARED), tmp_path))


def test_a_slow_start_is_a_smaller_rate_of_b_until_k(tmp_path: Path) -> None:
    class Rates(TrainerCallback):
        """Two groups of parameters by hand: B's rate is a third in steps t ≤ K."""

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            fast, slow = kwargs["optimizer"].param_groups  # the Trainer's: with weight decay, and without (none)
            if state.global_step == 0:
                chosen = [p for name, p in kwargs["model"].named_parameters() if "lora_B" in name]
                fast["params"] = [p for p in fast["params"] if all(p is not other for other in chosen)]
                slow["params"], slow["weight_decay"] = chosen, fast["weight_decay"]
            slow["lr"] = fast["lr"] / (3 if state.global_step <= K else 1)

    plain, slow = Lora(name="lora", **SHARED), SlowStartLora(name="s", update_ratio=RATIO, start_steps=K, **SHARED)
    by_hand, found = learned(plain, tmp_path, Rates()), learned(slow, tmp_path)
    assert same(found, by_hand)
    assert not same(found, learned(Lora(name="lora", **SHARED), tmp_path))


def test_a_removed_ablation_leaves_plain_gradients() -> None:
    method = ablation("hook")
    method.prepare(model_for("gpt2"), GPT2, Schedule(STEPS, 0))
    delta = method.delta
    assert isinstance(delta, Ablation)
    delta._place([(*layer.snapshot(), False) for layer in delta._layers])
    factor = delta._layers[0].a
    assert len(factor._backward_hooks or {}) == 1
    delta.restore()
    assert not factor._backward_hooks and not delta.anchored


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (ablation("fold"), "method.without must be anchor or hook, got 'fold'"),
        (ablation("hook", literal=False), "set method.literal=true"),
        (SlowStartLora(name="s", update_ratio=-1, start_steps=2, **SHARED), "method.update_ratio must be a number ≥ 0"),
        (
            SlowStartLora(name="s", update_ratio=2, start_steps=20, **SHARED),
            "method.start_steps must be .* from 0 to 8",
        ),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_loaded(method: Method, message: str) -> None:
    with pytest.raises(UserError, match=message):
        method.validate(32, 10)


@pytest.fixture(scope="module")
def rows() -> dict[str, DictConfig]:
    """The table's methods by label."""
    cells: tuple[GridCell, ...] = compose_grid(["table=controls", "scale=paper", "data_dir=null"]).cells
    return {cell.config.method.label: cell.config.method for cell in cells}


def test_the_table_has_the_rows_that_isolate_one_thing_each(rows: dict[str, DictConfig]) -> None:
    assert list(rows) == [
        "LoRA, α 32",
        "LoRA, α 96",
        "Delta-LoRA, λ 2, K 500",
        "Delta-LoRA, λ 2, K 0",
        "LoRA, α 32, learning rate × 3",
        "LoRA, α 288",
        "LoRA, r 8, α 192",
        "LoRA, α 64",
        "Delta-LoRA, λ 1, K 500",
        "LoRA, α 128",
        "Delta-LoRA, λ 3, K 500",
        "Scale × 3 at K, no fold",
        "Fold at K, no hook",
        "LoRA, α 96, B’s rate / 3 until K",
        "LoRA, α 32, dropout 0.1",
        "LoRA, α 96, dropout 0.1",
        "Delta-LoRA, λ 2, K 500, dropout 0.1",
    ]
    assert {label for label, method in rows.items() if method.dropout} == set(list(rows)[-3:])
    assert {label for label, method in rows.items() if method.learning_rate != 2e-4} == {list(rows)[4]}
    assert {label for label, method in rows.items() if method.get("literal")} == {*list(rows)[11:13], list(rows)[-1]}
    assert rows["LoRA, r 8, α 192"].alpha / 8 == 3 * rows["LoRA, α 32"].alpha / 4, "the same scale s' = 3 s"


def test_all_rows_of_one_rank_start_from_the_same_a(rows: dict[str, DictConfig]) -> None:
    starts = []
    for method in (build_method(config) for config in rows.values() if config.rank == 4):
        set_seed(1)
        prepared = method.prepare(model_for("gpt2"), GPT2, Schedule(1000, 0))
        starts.append([p.detach().clone() for name, p in prepared.named_parameters() if "lora_A" in name])
    assert len(starts) == len(rows) - 1
    assert all(torch.equal(a, b) for start in starts for a, b in zip(start, starts[0], strict=True))


def test_cells_that_stand_in_the_papers_tables_are_theirs() -> None:
    """Delta-LoRA of Tables 1, 7 and 8, Table 5's dropout, and Table 1's LoRA are not trained again."""
    keys = {
        name: {cell.key for cell in compose_grid([f"table={name}", "scale=tiny"]).cells}
        for name in ("controls", "table1", "table5", "table7", "table8")
    }
    shared = {name: len(keys["controls"] & cells) for name, cells in keys.items()}
    assert shared == {"controls": 17, "table1": 2, "table5": 3, "table7": 3, "table8": 2}
