"""bf16: the frozen base is held in it while it trains, with the results of autocast, and comes back as it was."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.method_models import SPECS, examples, model_for
from helpers.table_records import ENVIRONMENT, grid_of, write_run
from omegaconf import DictConfig
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel

from delta_lora import DeltaLora
from delta_lora.methods.base import Method, Schedule
from delta_lora.methods.delta_lora import DeltaLoraMethod
from delta_lora.methods.lora import Lora
from delta_lora.suite.pages.provenance import facts
from delta_lora.suite.run import precision
from delta_lora.suite.run.decoding import decode
from delta_lora.suite.run.precision import attention_as, frozen_matrices_in, has_bf16, training_in, uses_bf16
from delta_lora.suite.run.recipe import run_cell


def losses(
    model: nn.Module, family: str, after_step: Callable[[], None], dtype: torch.dtype = torch.bfloat16, steps: int = 6
) -> list[float]:
    """Of a short training, under autocast where ``dtype`` is bf16."""
    rows = examples(family)[:8]
    batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    seen = []
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        after_step()
        optimizer.zero_grad()
        seen.append(loss.item())
    return seen


def lora(family: str) -> tuple[nn.Module, Method]:
    torch.manual_seed(0)
    method = Lora(name="lora", learning_rate=1e-2, rank=2, alpha=4, dropout=0)
    return method.prepare(model_for(family), SPECS[family], Schedule(6, 0)), method


@pytest.mark.parametrize("family", SPECS)
def test_a_held_base_trains_bit_for_bit_as_autocast_does_and_comes_back(family: str) -> None:
    plain = losses(lora(family)[0], family, lambda: None)
    model, _ = lora(family)
    before = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    with frozen_matrices_in(model, torch.bfloat16):
        layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
        assert layers
        assert all(layer.get_base_layer().weight.dtype == torch.bfloat16 for layer in layers)
        trained = {p.dtype for p in model.parameters() if p.requires_grad}
        embeddings = {m.weight.dtype for m in model.modules() if isinstance(m, nn.Embedding | nn.LayerNorm)}
        assert trained == embeddings == {torch.float32}
        held = losses(model, family, lambda: None)
    assert held == plain
    after = dict(model.named_parameters())
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_delta_lora_keeps_its_anchor_beside_a_base_in_16_bits() -> None:
    model: Any = lora("gpt2")[0]
    before = {name: p.clone() for name, p in model.named_parameters() if "base_layer" in name}
    delta = DeltaLora(model, update_ratio=2.0, start_steps=1)
    with frozen_matrices_in(model, torch.bfloat16):
        losses(model, "gpt2", delta.step)
        assert delta.anchored
        assert "branch" in repr(delta)
        assert "fold" not in repr(delta)
    after = dict(model.named_parameters())
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items()), "W_0 was rewritten"


def test_what_is_excluded_stays_in_float32() -> None:
    model, _ = lora("gpt2")
    with frozen_matrices_in(model, torch.bfloat16, but=("q_proj",)):
        dtypes = {
            name.split(".")[-1]: layer.get_base_layer().weight.dtype
            for name, layer in model.named_modules()
            if isinstance(layer, LoraLayer)
        }
    assert dtypes == {"q_proj": torch.float32, "v_proj": torch.bfloat16}
    literal = DeltaLoraMethod(
        name="d", learning_rate=1.0, rank=2, alpha=4, update_ratio=1.0, start_steps=1, literal=True
    )
    assert literal.rewrites_base


def test_auto_is_what_the_processor_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert uses_bf16("bf16")
    assert not uses_bf16("fp32")
    assert uses_bf16("auto") == has_bf16()
    if not torch.cuda.is_available():
        for flags, expected in [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx2": True}, False)]:
            monkeypatch.setattr(torch.cpu, "get_capabilities", lambda flags=flags: flags)
            assert has_bf16() is expected


@pytest.mark.parametrize("family", SPECS)
def test_plain_attention_trains_as_the_fused_kernel_does(family: str) -> None:
    fused = losses(lora(family)[0], family, lambda: None, torch.float32)
    model, method = lora(family)
    base = next(module for module in model.modules() if isinstance(module, PreTrainedModel))
    before = base.config._attn_implementation
    with attention_as(base, "eager"):
        attention = {m.config._attn_implementation for m in model.modules() if isinstance(m, PreTrainedModel)}
        assert attention == {"eager"}
        plain = losses(model, family, lambda: None, torch.float32)
    assert base.config._attn_implementation == before != "eager"
    assert plain == pytest.approx(fused, rel=1e-4)
    with training_in(model, method, SPECS[family], bf16=False):
        assert base.config._attn_implementation == before
    with training_in(model, method, SPECS[family], bf16=True):
        assert base.config._attn_implementation == (before if torch.cuda.is_available() else "eager")
    assert base.config._attn_implementation == before


def dtype_of(made: Any) -> torch.dtype | None:
    return made.dtype if isinstance(made, torch.Tensor) else None


@contextmanager
def hook_removed(hook: Any) -> Iterator[None]:
    try:
        yield
    finally:
        hook.remove()


@pytest.mark.usefixtures("quick_scores")
@pytest.mark.parametrize("method", ["full", "delta-lora", "delta-lora-dropout"])
def test_a_run_in_bf16_ends_on_the_checkpoints_own_weights(
    short: Callable[..., DictConfig], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []
    inner = precision.frozen_matrices_in

    def watched(*args: Any, **kwargs: Any) -> Any:
        held.append(kwargs["but"])
        return inner(*args, **kwargs)

    monkeypatch.setattr("delta_lora.suite.run.precision.frozen_matrices_in", watched)
    computed = set()

    def decoding(model: Any, *arguments: Any) -> Any:
        hook = nn.modules.module.register_module_forward_hook(lambda module, given, made: computed.add(dtype_of(made)))
        with hook_removed(hook):
            return decode(model, *arguments)

    monkeypatch.setattr("delta_lora.suite.run.recipe.decode", decoding)
    run = run_cell(short(f"method={method}", "task.train.precision=bf16"))
    assert computed == {torch.float32, None}, "autocast is training's; texts are made as task.decode.precision says"
    assert held == [("q_proj", "v_proj") if method == "delta-lora-dropout" else ()]
    assert run.train["final_loss"] > 0


@pytest.mark.usefixtures("quick_scores")
@pytest.mark.parametrize("has", [True, False])
def test_a_record_says_what_auto_became(
    short: Callable[..., DictConfig], has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("delta_lora.suite.run.precision.has_bf16", lambda: has)
    run = run_cell(short("method=lora", "task.train.precision=auto", "task.train.max_steps=4"))
    assert run is not None and run.environment["precision"] == ("bf16" if has else "fp32")


def test_a_page_says_what_its_runs_were_trained_in_where_they_say_it(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "table=table3", "scale=tiny", "method=lora,dylora,full")
    said = [
        write_run(tmp_path, cell, {}, environment=ENVIRONMENT | {"precision": name})
        for cell, name in zip(grid.cells, ("bf16", "bf16", "fp32"), strict=True)
    ]
    older = write_run(tmp_path, grid.cells[2], {})
    assert "Precision: bf16" in facts(grid, said[:2])
    assert "Precision: bf16 (2 runs); fp32 (1 run)" in facts(grid, said)
    assert "Precision: bf16 (2 runs); not recorded (1 run)" in facts(grid, [*said[:2], older])
    assert "Precision" not in str(facts(grid, [older]))
