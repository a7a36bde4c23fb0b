"""Delta-LoRA with K = 0 and LoRA at (1+λ)α: what is equal, and what is not (docs/delta-lora.md).

In float64. Where 1+λ is a power of two, scaling rounds nothing, and "equal" is bit for bit.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from helpers.models import gpt2_config
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from transformers import GPT2LMHeadModel

from delta_lora import DeltaLora
from delta_lora.models.gpt2 import split_attention

RATE, STEPS, ALPHA, EPSILON = 1e-2, 25, 8, 1e-8
# The rates of Transformers' schedule with three steps of warm-up: the first is 0.
WARM = [RATE * min(1, step / 3) for step in range(STEPS)]
COLD = [RATE] * STEPS
Optimize = Callable[[list[nn.Parameter]], Optimizer]


def adamw(epsilon: float) -> Optimize:
    return lambda parameters: AdamW(parameters, lr=RATE, eps=epsilon, weight_decay=0.1)


def clipped(optimize: Optimize, limit: float) -> Optimize:
    """With the gradients clipped to this norm before each step."""

    def made(parameters: list[nn.Parameter]) -> Optimizer:
        optimizer = optimize(parameters)
        optimizer.register_step_pre_hook(lambda *_: void(nn.utils.clip_grad_norm_(parameters, limit)))
        return optimizer

    return made


def void(_: object) -> None:
    """Nothing."""


def train(
    alpha: int,
    rates: Sequence[float],
    optimize: Optimize,
    ratio: float | None = None,
    constants: dict[str, Tensor] | None = None,
) -> tuple[PeftModel, DeltaLora | None]:
    """A small GPT-2 with LoRA at ``alpha``; with a ``ratio`` Delta-LoRA from K = 0 on.

    ``constants`` take the place of base weights after the first step.
    """
    torch.manual_seed(0)
    base = split_attention(GPT2LMHeadModel(gpt2_config(initializer_range=0.2))).double()
    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=alpha, target_modules=["q_proj", "v_proj"])
    model = get_peft_model(base, config, autocast_adapter_dtype=False)
    delta = None if ratio is None else DeltaLora(model, ratio, 0)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer, generator = optimize(trained), torch.Generator().manual_seed(2)
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        tokens = torch.randint(53, (4, 12), generator=generator)
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        if constants is not None:
            model.load_state_dict(constants, strict=False)
        if delta is not None:
            delta.step()
        optimizer.zero_grad()
    return model, delta


def of(trained: tuple[PeftModel, Any], kind: str = "lora_") -> dict[str, Tensor]:
    """The factors, or the base weights under them (``base_layer``)."""
    return {name: value.detach() for name, value in trained[0].named_parameters() if kind in name}


def farthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize(("ratio", "most"), [(1, 0.0), (3, 0.0), (2, 1e-10)])
def test_after_a_step_of_warm_up_only_epsilon_is_not_that_of_lora_at_the_larger_scale(ratio: int, most: float) -> None:
    """Weight decay and the schedule are in it; ε is (1+λ) times as large, seen from LoRA."""
    delta = train(ALPHA, WARM, adamw(EPSILON), ratio)
    lora = train((1 + ratio) * ALPHA, WARM, adamw((1 + ratio) * EPSILON))
    assert farthest(of(delta), of(lora)) <= most
    assert farthest(of(delta, "base_layer"), of(lora, "base_layer")) == 0, "the anchor of a step at rate 0 is 0"
    assert farthest(of(delta), of(train(ALPHA, WARM, adamw(EPSILON)))) > 1e-3, "LoRA at α is another run"


def test_epsilon_changes_a_step_by_what_the_derivation_says() -> None:
    """η m̂ λε / ((√v̂ + ε)(√v̂ + (1+λ)ε)), entry by entry, of the first step with a rate, from equal factors."""
    ratio, epsilon = 3, 1e-4  # large enough to be seen
    delta, seen = of(train(ALPHA, WARM[:2], adamw(epsilon), ratio)), list[Tensor]()

    def watched(parameters: list[nn.Parameter]) -> Optimizer:
        optimizer = adamw(epsilon)(parameters)

        def note(*_: Any) -> None:
            for state in (optimizer.state[parameter] for parameter in parameters):
                m = state["exp_avg"] / (1 - 0.9 ** float(state["step"]))
                root = (state["exp_avg_sq"] / (1 - 0.999 ** float(state["step"]))).sqrt()
                seen.append((m.abs() * ratio * epsilon / ((root + epsilon) * (root + (1 + ratio) * epsilon))).flatten())

        optimizer.register_step_post_hook(note)
        return optimizer

    lora = of(train((1 + ratio) * ALPHA, WARM[:2], watched))
    moved = torch.cat([(delta[name] - lora[name]).abs().flatten() for name in lora])
    expected = WARM[1] * torch.cat(seen[len(lora) :])
    torch.testing.assert_close(moved, expected, rtol=1e-5, atol=1e-12)
    assert float(moved.max()) > 1e-6, "there is something to see"


def test_without_warm_up_the_anchor_is_all_that_differs_and_within_its_bound() -> None:
    """One full step made it: |W_K+1 − W_0| ≤ λ s η Σ_k |A_kj|, entry by entry, since no entry of B is above η."""
    ratio, scale = 3, ALPHA / 4
    start, first = train(ALPHA, [], adamw(EPSILON)), train(ALPHA, COLD[:1], adamw(EPSILON), ratio)
    before, after = of(start, "base_layer.weight"), of(first, "base_layer.weight")
    moved = {name: (after[name] - before[name]).abs() for name in before if "q_proj" in name or "v_proj" in name}
    for name, change in moved.items():
        a = of(first)[name.replace("base_layer.weight", "lora_A.default.weight")]
        bound = ratio * scale * RATE * a.abs().sum(dim=0)  # by column
        assert bool((change <= bound * (1 + 1e-9)).all())
        assert float(change.max()) > 0.1 * float(bound.max())
    constants = {name: after[name] for name in moved}
    lora = train((1 + ratio) * ALPHA, COLD, adamw((1 + ratio) * EPSILON), constants=constants)
    assert farthest(of(train(ALPHA, COLD, adamw(EPSILON), ratio)), of(lora)) == 0
    assert farthest(of(train((1 + ratio) * ALPHA, COLD, adamw((1 + ratio) * EPSILON))), of(lora)) > 1e-3


def test_clipping_acts_as_at_a_limit_one_plus_lambda_times_as_large() -> None:
    """But for the 1e-6 that torch adds to the norm."""
    ratio, limit = 3, 0.02
    delta = of(train(ALPHA, WARM, clipped(adamw(EPSILON), limit), ratio))
    assert farthest(delta, of(train(4 * ALPHA, WARM, clipped(adamw(4 * EPSILON), 4 * limit)))) < 1e-6
    assert farthest(delta, of(train(4 * ALPHA, WARM, clipped(adamw(4 * EPSILON), limit)))) > 1e-4


def test_with_sgd_the_rate_is_divided_and_with_coupled_decay_nothing_is_equal() -> None:
    ratio = 3
    slower = [rate / 4 for rate in WARM]
    sgd: Optimize = lambda parameters: SGD(parameters, lr=RATE)  # noqa: E731
    delta = of(train(ALPHA, WARM, sgd, ratio))
    assert farthest(delta, of(train(4 * ALPHA, slower, sgd))) < 1e-15
    assert farthest(delta, of(train(4 * ALPHA, WARM, sgd))) > 1e-4

    def coupled(epsilon: float) -> Optimize:
        return lambda parameters: Adam(parameters, lr=RATE, eps=epsilon, weight_decay=0.1)

    delta = of(train(ALPHA, WARM, coupled(EPSILON), ratio))
    assert farthest(delta, of(train(4 * ALPHA, WARM, coupled(4 * EPSILON)))) > 1e-3
