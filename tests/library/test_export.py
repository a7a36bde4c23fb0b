"""Export as a stock PEFT adapter, and merging, for every architecture the library promises."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from helpers.models import DECODER, VOCABULARY, bart_config, gpt2_config, llama_config, roberta_config
from packaging.version import Version
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from delta_lora import DeltaLora
from delta_lora.errors import UserError
from delta_lora.models.gpt2 import split_attention

GPT2, ROBERTA, BART = gpt2_config(), roberta_config(), bart_config()
Case = tuple[Any, type[Any], dict[str, Any], Callable[[PreTrainedModel], PreTrainedModel]]


def same(model: PreTrainedModel) -> PreTrainedModel:
    return model


CASES: dict[str, Case] = {
    "gpt2-fused": (
        GPT2,
        AutoModelForCausalLM,
        {"target_modules": ["c_attn", "mlp.c_fc"], "fan_in_fan_out": True, "task_type": TaskType.CAUSAL_LM},
        same,
    ),
    "gpt2-split": (
        GPT2,
        AutoModelForCausalLM,
        {"target_modules": ["q_proj", "v_proj"], "task_type": TaskType.CAUSAL_LM},
        split_attention,
    ),
    "gpt2-split-ragged": (
        GPT2,
        AutoModelForCausalLM,
        {"target_modules": r".*\.0\.attn\.c_attn\.q_proj|.*\.(q_proj|k_proj|c_fc)", "rank_pattern": {"q_proj": 3}},
        split_attention,
    ),
    "roberta": (
        ROBERTA,
        AutoModelForSequenceClassification,
        {"target_modules": ["query", "value"], "modules_to_save": ["classifier"]},
        same,
    ),
    "roberta-bias": (
        ROBERTA,
        AutoModelForSequenceClassification,
        {"target_modules": ["query"], "modules_to_save": ["classifier"], "bias": "lora_only"},
        same,
    ),
    "bart": (
        BART,
        AutoModelForSeq2SeqLM,
        {"target_modules": ["q_proj", "v_proj"], "task_type": TaskType.SEQ_2_SEQ_LM},
        same,
    ),
    "llama": (
        llama_config(),
        AutoModelForCausalLM,
        {
            "target_modules": "all-linear",
            "rank_pattern": {"down_proj": 6, r"layers\.0\.self_attn\.q_proj": 1},
            "alpha_pattern": {"v_proj": 3},
            "use_rslora": True,
            "task_type": TaskType.CAUSAL_LM,
        },
        same,
    ),
    "qwen2": (
        Qwen2Config(**DECODER, tie_word_embeddings=True),
        AutoModelForCausalLM,
        {"target_modules": ["q_proj", "v_proj", "gate_proj"], "layers_to_transform": [1], "task_type": "CAUSAL_LM"},
        same,
    ),
    "qwen3": (
        Qwen3Config(**DECODER, head_dim=8),
        AutoModelForCausalLM,
        {"target_modules": ["q_proj", "o_proj"], "modules_to_save": ["lm_head"], "task_type": TaskType.CAUSAL_LM},
        same,
    ),
}


def inputs(name: str) -> dict[str, Tensor]:
    tokens = torch.randint(3, VOCABULARY, (3, 9), generator=torch.Generator().manual_seed(5))
    return {"input_ids": tokens, "labels": torch.tensor([0, 2, 1]) if "roberta" in name else tokens}


def trained(
    name: str, folder: Path, anchor: str = "auto", steps: int = 8
) -> tuple[DeltaLora, dict[str, Tensor], Tensor]:
    """Write a stock checkpoint, train on it with Delta-LoRA, and return (delta, batch, final logits)."""
    config, auto, options, prepare = CASES[name]
    torch.manual_seed(0)
    stock = auto.from_config(config)
    for parameter in stock.parameters():  # larger than the usual start, so that every part shows in the logits
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    stock.tie_weights()
    stock.save_pretrained(folder / "stock")
    model = get_peft_model(
        prepare(auto.from_pretrained(folder / "stock")), LoraConfig(r=2, lora_alpha=8, **copy.deepcopy(options))
    )
    delta = DeltaLora(model, update_ratio=2.0, start_steps=2, anchor=anchor)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    batch = inputs(name)
    for _ in range(steps):
        model(**batch).loss.backward()
        optimizer.step()
        delta.step()
        optimizer.zero_grad()
    with torch.no_grad():
        return delta, batch, model.eval()(**batch).logits


@pytest.mark.parametrize("anchor", ["fold", "branch"])
@pytest.mark.parametrize("name", CASES)
def test_exported_and_merged_models_have_the_trained_models_logits(name: str, anchor: str, tmp_path: Path) -> None:
    if name == "roberta-bias" and Version(peft.__version__) < Version("0.21"):
        pytest.skip("older PEFT does not save trained biases")
    delta, batch, expected = trained(name, tmp_path, anchor)
    auto = CASES[name][1]

    delta.export(tmp_path / "adapter")
    stock = auto.from_pretrained(tmp_path / "stock").eval()
    with torch.no_grad():
        before = stock(**batch).logits
        loaded = PeftModel.from_pretrained(stock, tmp_path / "adapter")
        torch.testing.assert_close(loaded(**batch).logits, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(loaded.merge_and_unload()(**batch).logits, expected, rtol=0, atol=1e-5)
    assert (before - expected).abs().max() > 1e-2

    merged = delta.merge()
    with torch.no_grad():
        torch.testing.assert_close(merged(**batch).logits, expected, rtol=0, atol=1e-5)
    merged.save_pretrained(tmp_path / "merged")
    saved, report = auto.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        torch.testing.assert_close(saved.eval()(**batch).logits, expected, rtol=0, atol=1e-5)
    with pytest.raises(UserError, match="after detach"):
        delta.step()


@pytest.mark.parametrize("name", ["gpt2-fused", "gpt2-split", "llama"])
def test_ranks_are_doubled_and_no_more(name: str, tmp_path: Path) -> None:
    delta, _, _ = trained(name, tmp_path)
    for layer, (_, b, a) in zip(delta._layers, delta.effective_delta(), strict=True):
        rank = layer.shape[1]
        assert a.shape[0] == b.shape[1] == 2 * rank
        values = torch.linalg.svdvals((b @ a).double())
        assert (values > 1e-6 * values[0]).sum() <= 2 * rank
    delta.export(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    # Two split matrices of rank 2r each share the fused one's block form.
    assert config["r"] == {"gpt2-fused": 4, "gpt2-split": 8, "llama": 4}[name]
    if name == "gpt2-split":
        assert config["target_modules"] == ["c_attn"] and config["fan_in_fan_out"]


def test_before_the_anchor_the_export_is_the_plain_adapter(tmp_path: Path) -> None:
    delta, batch, expected = trained("bart", tmp_path, steps=2)
    assert not delta.anchored
    delta.export(str(tmp_path / "adapter"))
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["r"] == 2
    loaded = PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "stock"), tmp_path / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(**batch).logits, expected, rtol=0, atol=1e-5)


def test_exporting_leaves_training_undisturbed(tmp_path: Path) -> None:
    delta, batch, expected = trained("gpt2-split", tmp_path)
    delta.export(tmp_path / "adapter")
    with torch.no_grad():
        assert torch.equal(delta.model(**batch).logits, expected)
    assert delta.model.peft_config["default"].r == 2


def test_the_effective_delta_is_what_the_weights_moved_by(tmp_path: Path) -> None:
    delta, _, _ = trained("gpt2-fused", tmp_path)
    stock = AutoModelForCausalLM.from_pretrained(tmp_path / "stock").state_dict()
    deltas = {name: b @ a for name, b, a in delta.effective_delta()}
    merged = delta.merge().state_dict()
    for name, difference in deltas.items():
        moved = (merged[f"{name}.weight"] - stock[f"{name}.weight"]).T  # a Conv1D keeps W transposed
        torch.testing.assert_close(moved, difference, rtol=0, atol=1e-6)
