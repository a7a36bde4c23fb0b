"""The folded form and the branch equal Algorithm 1 as printed."""

import copy
from collections.abc import Iterator

import pytest
import torch
from helpers.models import gpt2_config
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import GPT2LMHeadModel

from delta_lora import DeltaLora
from delta_lora.models.gpt2 import split_attention

K = 7
STEPS = 68  # 60 after the anchor is taken
VOCABULARY = 61


def small_gpt2(dtype: torch.dtype = torch.float64) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return split_attention(GPT2LMHeadModel(gpt2_config(vocab_size=VOCABULARY, n_positions=16))).to(dtype)


def with_lora(model: GPT2LMHeadModel, dropout: float = 0.0) -> PeftModel:
    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=32, target_modules=["q_proj", "v_proj"], lora_dropout=dropout)
    return get_peft_model(model, config, autocast_adapter_dtype=False)


def batches(count: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(2)
    for _ in range(count):
        yield torch.randint(VOCABULARY, (4, 12), generator=generator)


def train(
    model: PeftModel,
    delta: DeltaLora | None,
    steps: int = STEPS,
    clip: float | None = None,
    accumulate: int = 1,
) -> list[float]:
    """AdamW with weight decay, as the paper trains; the losses of all forward passes."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-2, weight_decay=0.1)
    data, losses = batches(steps * accumulate), []
    for _ in range(steps):
        for _ in range(accumulate):
            tokens = next(data)
            loss = model(input_ids=tokens, labels=tokens).loss / accumulate
            loss.backward()
            losses.append(loss.item())
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(trainable, clip)
        optimizer.step()
        if delta is not None:
            delta.step()
        optimizer.zero_grad()
    return losses


def effective_weights(model: PeftModel) -> dict[str, Tensor]:
    merged = copy.deepcopy(model).merge_and_unload()
    return {
        name: p.detach() for name, p in merged.named_parameters() if name.endswith(("q_proj.weight", "v_proj.weight"))
    }


def largest_difference(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    assert ours.keys() == theirs.keys() and ours
    return max((ours[name] - theirs[name]).abs().max().item() for name in ours)


@pytest.mark.parametrize("anchor", ["fold", "branch"])
@pytest.mark.parametrize(("clip", "accumulate"), [(None, 1), (0.05, 1), (0.05, 3)])
def test_practical_forms_equal_algorithm_1(anchor: str, clip: float | None, accumulate: int) -> None:
    base = small_gpt2()
    runs = {}
    for literal in (True, False):
        model = with_lora(copy.deepcopy(base))
        delta = DeltaLora(model, update_ratio=2.0, start_steps=K, literal=literal, anchor="auto" if literal else anchor)
        losses = train(model, delta, clip=clip, accumulate=accumulate)
        assert delta.steps == STEPS and delta.anchored
        runs[literal] = losses, effective_weights(model)
    printed, practical = runs[True], runs[False]
    assert max(abs(a - b) for a, b in zip(printed[0], practical[0], strict=True)) <= 1e-9
    assert largest_difference(printed[1], practical[1]) <= 1e-9
    # The comparison means nothing unless W has moved far.
    plain = with_lora(copy.deepcopy(base))
    train(plain, None, clip=clip, accumulate=accumulate)
    assert largest_difference(printed[1], effective_weights(plain)) > 1e-2


def test_the_literal_form_is_the_papers_loop() -> None:
    base = small_gpt2()
    model = with_lora(copy.deepcopy(base))
    train(model, DeltaLora(model, 2.0, K, literal=True), clip=0.05)
    ours = effective_weights(model)

    model = with_lora(base)  # the loop again, by hand, from the paper's formula alone
    layers = [m for m in model.modules() if hasattr(m, "lora_A") and "default" in m.lora_A]
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-2, weight_decay=0.1)
    for t, tokens in enumerate(batches(STEPS)):
        before = [m.lora_B["default"].weight.detach() @ m.lora_A["default"].weight.detach() for m in layers]
        model(input_ids=tokens, labels=tokens).loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, 0.05)
        optimizer.step()
        optimizer.zero_grad()
        if t > K:
            for module, product in zip(layers, before, strict=True):
                after = module.lora_B["default"].weight.detach() @ module.lora_A["default"].weight.detach()
                module.base_layer.weight.data += 2.0 * (32 / 4) * (after - product)
    assert largest_difference(ours, effective_weights(model)) <= 1e-12


@pytest.mark.parametrize("literal", [True, False])
def test_the_weights_first_move_with_step_k_plus_2(literal: bool) -> None:
    for steps, moved in ((K, False), (K + 1, False), (K + 2, True)):
        model, plain = with_lora(small_gpt2()), with_lora(small_gpt2())
        train(model, DeltaLora(model, 2.0, K, literal=literal), steps)
        train(plain, None, steps)
        difference = largest_difference(effective_weights(model), effective_weights(plain))
        assert (difference > 1e-4) if moved else (difference <= 1e-15), steps


@pytest.mark.parametrize("literal", [True, False])
def test_update_ratio_zero_is_lora_bit_for_bit(literal: bool) -> None:
    model, plain = with_lora(small_gpt2(torch.float32)), with_lora(small_gpt2(torch.float32))
    delta = DeltaLora(model, 0.0, K, literal=literal)
    assert train(model, delta, 30, clip=0.05) == train(plain, None, 30, clip=0.05)
    assert not delta.anchored and delta.steps == 30
    ours, theirs = model.state_dict(), plain.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_literal_with_dropout_keeps_dropout_out_of_the_moved_weight() -> None:
    # In evaluation the effective weight must be W_t + s·BA with W_t = W_0 + λs(B_tA_t − B_*A_*).
    model = with_lora(small_gpt2(), dropout=0.3)
    base = {name: p.detach().clone() for name, p in model.named_parameters() if name.endswith("base_layer.weight")}
    delta = DeltaLora(model, 2.0, K, literal=True)
    train(model, delta, 30)
    for name, b, a in delta.effective_delta():
        expected = base[f"base_model.model.{name}.base_layer.weight"] + b @ a
        effective = effective_weights(model)[f"{name}.weight"]
        torch.testing.assert_close(effective, expected, rtol=0, atol=1e-12)


def test_pending_gradients_of_the_anchoring_step_keep_their_scale() -> None:
    # A loop that never clears its gradients sums them over steps; both forms must see the same sums.
    base, runs = small_gpt2(), []
    for literal in (True, False):
        model = with_lora(copy.deepcopy(base))
        delta = DeltaLora(model, 2.0, 2, literal=literal)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        for tokens in batches(8):
            model(input_ids=tokens, labels=tokens).loss.backward()
            optimizer.step()
            delta.step()
        runs.append(effective_weights(model))
    assert largest_difference(*runs) <= 1e-12
