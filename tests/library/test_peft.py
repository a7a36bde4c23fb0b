"""DeltaLora among other features: several adapters, quantization, merging, compiling, checkpointing."""

import copy
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import gpt2_config, llama_config
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.integrations import dequantize_bnb_weight
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, GPT2LMHeadModel, LlamaForCausalLM

from delta_lora import DeltaLora
from delta_lora.errors import UserError

K = 2
LLAMA = llama_config(hidden_size=64, intermediate_size=128)
TOKENS = torch.randint(53, (3, 9), generator=torch.Generator().manual_seed(0))


def llama(dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LLAMA).to(dtype)


def lora(model: nn.Module, **options: Any) -> PeftModel:
    torch.manual_seed(1)
    arguments = {"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"], **options}
    return get_peft_model(model, LoraConfig(**arguments), autocast_adapter_dtype=False)


def train(model: nn.Module, delta: DeltaLora, steps: int = 8) -> list[float]:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    losses = []
    model.train()
    for _ in range(steps):
        loss = model(input_ids=TOKENS, labels=TOKENS).loss
        loss.backward()
        optimizer.step()
        delta.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def logits(model: nn.Module) -> Tensor:
    return model.eval()(input_ids=TOKENS).logits


def bases(model: PeftModel) -> list[Tensor]:
    return [p.detach().clone() for name, p in model.named_parameters() if name.endswith("base_layer.weight")]


def reference(dtype: torch.dtype = torch.float32, **options: Any) -> tuple[list[float], Tensor]:
    """Losses and final logits of Algorithm 1 as printed."""
    model = lora(llama(dtype), **options)
    losses = train(model, DeltaLora(model, 2.0, K, literal=True))
    return losses, logits(model)


PATTERNS: list[dict[str, Any]] = [
    {"rank_pattern": {"q_proj": 2, r"layers\.1\.self_attn\.v_proj": 7}, "alpha_pattern": {"v_proj": 3}},
    {"use_rslora": True},
    {"target_modules": "all-linear"},
    {"init_lora_weights": "gaussian", "modules_to_save": ["lm_head"]},
]


@pytest.mark.parametrize("anchor", ["fold", "branch"])
@pytest.mark.parametrize("options", PATTERNS)
def test_lora_options_are_honoured(options: dict[str, Any], anchor: str) -> None:
    losses, expected = reference(torch.float64, **options)
    model = lora(llama(torch.float64), **options)
    assert train(model, DeltaLora(model, 2.0, K, anchor=anchor)) == pytest.approx(losses, abs=1e-10)
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-10)


def test_only_the_named_adapter_moves() -> None:
    model = lora(llama())
    model.add_adapter("other", LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj", "o_proj"]))
    for module in model.modules():  # an adapter that has learned something
        if hasattr(module, "lora_B") and "other" in module.lora_B:
            nn.init.normal_(module.lora_B["other"].weight)
    model.set_adapter("other")
    before, base = logits(model), bases(model)
    model.set_adapter("default")
    delta = DeltaLora(model, 2.0, K, adapter_name="default")
    losses, expected = reference()
    assert train(model, delta) == pytest.approx(losses, abs=1e-5)
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-4)
    assert "(branch, fold)" in repr(delta)  # v_proj has only this adapter and is folded; q_proj is shared
    model.set_adapter("other")
    assert not torch.equal(logits(model), expected)
    model.set_adapter("default")
    delta.restore()
    model.set_adapter("other")
    assert torch.equal(logits(model), before)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(bases(model), base, strict=True))


def test_a_base_shared_with_another_adapter_is_left_alone() -> None:
    model = lora(llama())
    model.add_adapter("other", LoraConfig(target_modules=["q_proj", "v_proj"]))
    base = bases(model)
    for options in ({"anchor": "fold"}, {"literal": True}):
        with pytest.raises(UserError, match="adapter 'other' shares its base weight"):
            DeltaLora(model, 2.0, K, **options)
    delta = DeltaLora(model, 2.0, K)
    train(model, delta)
    assert "(branch)" in repr(delta)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(bases(model), base, strict=True))


def test_switching_adapters_during_training_keeps_the_gradients_scaled() -> None:
    model = lora(llama())
    model.add_adapter("other", LoraConfig(target_modules=["q_proj", "v_proj"]))
    delta = DeltaLora(model, 2.0, K)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    for step in range(8):
        model.set_adapter("other")  # freezes the default adapter
        logits(model)
        model.set_adapter("default")
        model(input_ids=TOKENS, labels=TOKENS).loss.backward()
        optimizer.step()
        delta.step()
        optimizer.zero_grad()
        assert delta.anchored == (step >= K)
    torch.testing.assert_close(logits(model), reference()[1], rtol=0, atol=1e-4)


def test_an_inactive_adapter_can_be_named_before_it_is_activated() -> None:
    model = lora(llama(), r=2)
    torch.manual_seed(1)
    model.add_adapter("mine", LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"]))
    delta = DeltaLora(model, 2.0, K, adapter_name="mine")
    model.set_adapter("mine")
    train(model, delta)
    assert delta.steps == 8 and all(p.grad is None for n, p in model.named_parameters() if "default" in n)


@pytest.mark.parametrize("anchor", ["fold", "branch"])
def test_merging_and_unmerging_with_peft(anchor: str) -> None:
    model = lora(llama(torch.float64))
    delta = DeltaLora(model, 2.0, K, anchor=anchor)
    train(model, delta)
    expected = logits(model)
    assert torch.allclose(logits(copy.deepcopy(model).merge_and_unload()), expected, rtol=0, atol=1e-10)
    model.merge_adapter()
    assert torch.allclose(logits(model), expected, rtol=0, atol=1e-10)
    model.unmerge_adapter()
    assert torch.allclose(logits(model), expected, rtol=0, atol=1e-10)
    for module in model.modules():
        if hasattr(module, "set_scale"):
            module.set_scale("default", 1.0)  # PEFT recomputes the scaling from alpha and rank
    assert torch.equal(logits(model), expected)


def test_anchoring_while_merged_is_refused() -> None:
    model = lora(llama())
    delta = DeltaLora(model, 2.0, 0)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    model(input_ids=TOKENS, labels=TOKENS).loss.backward()
    optimizer.step()
    model.merge_adapter()
    with pytest.raises(UserError, match="is merged: call unmerge_adapter"):
        delta.step()


def test_a_deep_copy_of_a_branch_merges_its_own_factors() -> None:
    model = lora(llama())
    train(model, DeltaLora(model, 2.0, K, anchor="branch"))
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.zero_()
    assert not torch.allclose(logits(twin.merge_and_unload()), logits(model), atol=1e-3)


def test_disabling_a_branch_gives_the_base_model() -> None:
    plain, model = llama(), lora(llama())
    train(model, DeltaLora(model, 2.0, K, anchor="branch"))
    with model.disable_adapter():
        assert torch.equal(logits(model), logits(plain))


def test_torch_compile_equals_eager() -> None:
    losses, expected = reference()
    for anchor in ("fold", "branch"):
        torch._dynamo.reset()
        model = lora(llama())
        compiled = torch.compile(model, backend="aot_eager")
        delta = DeltaLora(compiled, 2.0, K, anchor=anchor)
        assert delta.belongs_to(model)
        assert train(compiled, delta) == pytest.approx(losses, abs=1e-5)
        torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_equals_training_without(reentrant: bool) -> None:
    losses, expected = reference()
    model = lora(llama())
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    model.enable_input_require_grads()
    assert train(model, DeltaLora(model, 2.0, K)) == pytest.approx(losses, abs=1e-5)
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-4)


def test_a_tied_base_weight_is_an_error_and_a_branch_beside_it_is_none() -> None:
    config = gpt2_config(n_embd=16, n_layer=1, n_head=2)

    def tied() -> PeftModel:
        torch.manual_seed(0)
        return get_peft_model(GPT2LMHeadModel(config), LoraConfig(r=2, target_modules=["lm_head"]))

    for options in ({}, {"anchor": "fold"}, {"literal": True}):
        with pytest.raises(UserError, match=r"lm_head is tied to transformer\.wte.*anchor='branch'"):
            DeltaLora(tied(), 2.0, K, **options)
    model = tied()
    embedding = model.base_model.model.transformer.wte.weight.clone()
    delta = DeltaLora(model, 2.0, K, anchor="branch")
    train(model, delta)
    assert torch.equal(model.base_model.model.transformer.wte.weight, embedding)
    with pytest.raises(UserError, match="cannot merge into lm_head"):
        delta.merge()


def quantized(bits: int, folder: Path) -> LlamaForCausalLM:
    options = {"load_in_4bit": True, "bnb_4bit_compute_dtype": torch.float32} if bits == 4 else {"load_in_8bit": True}
    return LlamaForCausalLM.from_pretrained(
        folder, quantization_config=BitsAndBytesConfig(**options), device_map="cpu", dtype=torch.float32
    )


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.parametrize("bits", [4, 8])
def test_a_quantized_base_is_trained_in_a_branch_and_never_written(bits: int, tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path / "stock")
    model = lora(quantized(bits, tmp_path / "stock"))
    for options in ({"anchor": "fold"}, {"literal": True}):
        with pytest.raises(UserError, match=r"base weight is quantized.*use anchor='branch' or 'auto'"):
            DeltaLora(model, 2.0, K, **options)
    untrained = logits(quantized(bits, tmp_path / "stock"))
    delta = DeltaLora(model, 2.0, K)
    losses = train(model, delta)
    assert "(branch)" in repr(delta) and losses[-1] < losses[0]
    expected = logits(model)
    with model.disable_adapter():
        assert torch.equal(logits(model), untrained)

    delta.export(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(quantized(bits, tmp_path / "stock"), tmp_path / "adapter")
    torch.testing.assert_close(logits(loaded), expected, rtol=0, atol=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
def test_a_quantized_run_equals_algorithm_1_on_the_dequantized_weights(tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path / "stock")
    dequantized = llama()
    with torch.no_grad():
        for name, weight in quantized(4, tmp_path / "stock").named_parameters():
            plain = weight if weight.is_floating_point() else dequantize_bnb_weight(weight)
            dequantized.get_parameter(name).copy_(plain)
    printed, model = lora(dequantized), lora(quantized(4, tmp_path / "stock"))
    expected = train(printed, DeltaLora(printed, 2.0, K, literal=True))
    assert train(model, DeltaLora(model, 2.0, K)) == pytest.approx(expected, abs=1e-4)
