"""LoRA through PEFT: the published layer, the head, merging and export."""

from pathlib import Path

import loralib
import pytest
import torch
from helpers.method_models import SPECS, factors_of, logits, model_for, stock_model, trainer_for
from peft import PeftModel
from torch import nn

from delta_lora.errors import UserError
from delta_lora.methods.base import Method, Schedule
from delta_lora.methods.finetune import FineTune
from delta_lora.methods.lora import Lora

SIZES = 32


def lora(**arguments: object) -> Lora:
    return Lora(**({"name": "lora", "learning_rate": 1e-2, "rank": 4, "alpha": 32, "dropout": 0.0} | arguments))


def test_forward_and_gradients_equal_loralib() -> None:
    model = model_for("gpt2").double()
    method = lora(rank=3, alpha=7)
    method.prepare(model, SPECS["gpt2"], Schedule(10, 0))
    layer = method.adapted_layers()["transformer.h.0.attn.c_attn.q_proj"].double()
    base = layer.get_base_layer()
    theirs = loralib.Linear(32, 32, r=3, lora_alpha=7, lora_dropout=0.0, merge_weights=False).double()
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    with torch.no_grad():
        b.normal_()
        theirs.weight.copy_(base.weight)
        theirs.bias.copy_(base.bias)
        theirs.lora_A.copy_(a)
        theirs.lora_B.copy_(b)
    x = torch.randn(2, 5, 32, dtype=torch.float64, requires_grad=True)
    y = x.detach().clone().requires_grad_(True)
    left, right = layer(x), theirs(y)
    torch.testing.assert_close(left, right)
    torch.manual_seed(0)
    weights = torch.randn_like(left)
    (left * weights).sum().backward()
    (right * weights).sum().backward()
    for ours, other in ((a.grad, theirs.lora_A.grad), (b.grad, theirs.lora_B.grad), (x.grad, y.grad)):
        torch.testing.assert_close(ours, other)
    assert base.weight.grad is None


@pytest.mark.parametrize("family", ["gpt2", "roberta", "bart"])
@pytest.mark.parametrize("peft", [{}, {"use_dora": True}, {"use_rslora": True, "rank_pattern": {"(v_proj|value)": 2}}])
def test_trained_adapter_loads_in_stock_peft_and_merges(family: str, peft: dict[str, object], tmp_path: Path) -> None:
    method = lora(peft=peft, dropout=0.1)
    method.validate(SIZES, 10)
    trainer_for(method, family, tmp_path, steps=6).train()
    trained = logits(method.model, family)
    assert (trained - logits(stock_model(family), family)).abs().max() > 0.1
    method.export(tmp_path / "adapter")
    assert {p.name for p in (tmp_path / "adapter").iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    stock = PeftModel.from_pretrained(stock_model(family), str(tmp_path / "adapter"))
    torch.testing.assert_close(logits(stock, family), trained, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits(stock.merge_and_unload(), family), trained, atol=1e-4, rtol=1e-4)
    merged = method.merge()
    torch.testing.assert_close(logits(merged, family), trained, atol=1e-4, rtol=1e-4)
    assert not any("lora" in name for name, _ in merged.named_modules())
    with pytest.raises(RuntimeError, match="no prepared model"):
        method.export(tmp_path / "again")


@pytest.mark.parametrize("scope", ["all", "all-but-embeddings", "query-value"])
def test_fine_tuning_moves_its_own_weights_only_and_exports_nothing(scope: str, tmp_path: Path) -> None:
    method = FineTune(name="ft", learning_rate=1e-3, scope=scope)
    method.validate(SIZES, 10)
    trainer = trainer_for(method, "gpt2", tmp_path, steps=2)
    before = {n: p.detach().clone() for n, p in method.model.named_parameters()}
    expected = set(factors_of(method.model))
    trainer.train()
    moved = {n for n, p in method.model.named_parameters() if not torch.equal(p, before[n])}
    assert moved and moved <= expected
    assert len(expected) == {"all": len(before), "all-but-embeddings": len(before) - 2, "query-value": 4}[scope]
    method.export(tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()
    assert method.merge() is trainer.model


def test_the_head_is_trained_and_exported(tmp_path: Path) -> None:
    method = lora()
    trainer = trainer_for(method, "roberta", tmp_path, steps=3)
    assert method.counts().head == sum(p.numel() for p in stock_model("roberta").classifier.parameters())
    trainer.train()
    merged = method.merge()
    assert isinstance(merged.classifier, nn.Module)
    assert not torch.equal(merged.classifier.dense.weight, stock_model("roberta").classifier.dense.weight)


NAN = float("nan")


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (lora(rank=0), "method.rank must be an integer from 1 to 32"),
        (lora(rank=33), "smallest dimension of the adapted layers), got 33"),
        (lora(rank=2.5), "got 2.5"),
        (lora(rank=True), "got True"),
        (lora(rank="four"), "got 'four'"),
        (lora(alpha=0), "method.alpha must be a number > 0, got 0"),
        (lora(alpha=NAN), "got nan"),
        (lora(alpha=None), "got None"),
        (lora(dropout=1.0), "method.dropout must be a number ≥ 0 and < 1, got 1.0"),
        (lora(dropout=-0.1), "got -0.1"),
        (lora(learning_rate=0), "method.learning_rate must be a number > 0, got 0"),
        (lora(learning_rate=float("inf")), "got inf"),
        (lora(peft={"use_doras": True}), "method.peft has no option use_doras; it takes alpha_pattern"),
        (lora(peft={"rank_pattern": {"q_proj": 33}}), "method.peft.rank_pattern must be an integer from 1 to 32"),
        (
            lora(peft={"alpha_pattern": {"q_proj": "high"}}),
            "method.peft.alpha_pattern must be a number > 0, got 'high'",
        ),
        (FineTune(name="ft", learning_rate=1e-3, scope="most"), "method.scope must be one of all, "),
    ],
)
def test_bad_arguments_are_one_clear_line(method: Method, message: str) -> None:
    with pytest.raises(UserError) as caught:
        method.validate(SIZES, 100)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
