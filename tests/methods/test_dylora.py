"""DyLoRA: uniform ranks, the truncated branch, what a step may move, resuming, evaluation at any rank."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.method_models import GPT2, factors_of, logits, model_for, stock_model, trainer_for
from peft import PeftModel
from scipy.stats import chisquare
from transformers import TrainerCallback

from delta_lora.errors import UserError
from delta_lora.methods.base import Schedule
from delta_lora.methods.dylora import DyLora

RANK, ALPHA = 4, 8.0
NAME = "transformer.h.1.attn.c_attn.v_proj"


def dylora(**arguments: Any) -> DyLora:
    given = {
        "name": "dylora",
        "learning_rate": 1e-2,
        "rank": RANK,
        "alpha": ALPHA,
        "dropout": 0.0,
    } | arguments
    return DyLora(**given)


def prepared(**arguments: Any) -> DyLora:
    """On a miniature GPT-2, with B no longer zero."""
    method = dylora(**arguments)
    method.prepare(model_for("gpt2"), GPT2, Schedule(10, 0))
    with torch.no_grad():
        for layer in method.adapted_layers().values():
            layer.lora_B["default"].weight.normal_(std=0.2)
    return method


class Watch(TrainerCallback):
    """Keeps the b of every step, and the trainable values before the first and after every one."""

    def __init__(self, method: DyLora) -> None:
        self.method, self.drawn, self.values = method, [], [factors_of(method.model)]

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.drawn.append(self.method.ranks.current)
        self.values.append(factors_of(self.method.model))


def test_ranks_are_drawn_uniformly_and_independently() -> None:
    ranks = prepared().ranks
    drawn = torch.tensor([ranks.draw(seed=7, step=step) for step in range(8000)])
    assert chisquare(torch.bincount(drawn, minlength=RANK + 1)[1:].numpy()).pvalue > 0.01
    pairs = (drawn[:-1] - 1) * RANK + drawn[1:] - 1
    assert chisquare(torch.bincount(pairs, minlength=RANK**2).numpy()).pvalue > 0.01
    assert [ranks.draw(seed=8, step=step) for step in range(50)] != drawn[:50].tolist()


@pytest.mark.parametrize("b", range(1, RANK + 1))
def test_truncated_forward_and_gradients_equal_the_formula(b: int) -> None:
    method = prepared()
    layer = method.adapted_layers()[NAME].train()
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    method.ranks.current = b
    x = torch.randn(3, 32)
    output = layer(x)
    a, c = (p.detach().clone().requires_grad_() for p in (down, up))
    expected = layer.get_base_layer()(x) + ALPHA / b * x @ a[:b].T @ c[:, :b].T
    torch.testing.assert_close(output, expected)
    output.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(down.grad, a.grad)
    torch.testing.assert_close(up.grad, c.grad)
    assert not down.grad[b:].any() and not up.grad[:, b:].any()


def test_evaluation_between_steps_does_not_disturb_training() -> None:
    method = prepared(eval_rank=2)
    layer = method.adapted_layers()[NAME]
    method.ranks.current = 2
    x = torch.randn(3, 32)
    with torch.inference_mode():
        evaluated = layer.eval()(x)
    trained = layer.train()(x)
    torch.testing.assert_close(trained.detach(), evaluated.clone())
    trained.sum().backward()
    method.ranks.current = 4
    assert not torch.allclose(layer(x), trained)
    torch.testing.assert_close(layer.eval()(x), trained)


def test_frozen_gives_a_gradient_to_the_last_rank_only_and_the_full_one_to_the_input() -> None:
    plain, frozen = prepared(), prepared(frozen=True)
    gradients = []
    for method in (plain, frozen):
        layer = method.adapted_layers()[NAME].train()
        method.ranks.current = 3
        x = torch.linspace(-1, 1, 96).view(3, 32).requires_grad_()
        with torch.no_grad():
            for p, q in zip(layer.parameters(), plain.adapted_layers()[NAME].parameters(), strict=True):
                p.copy_(q)
        layer(x).square().sum().backward()
        gradients.append((x.grad, layer.lora_A["default"].weight.grad, layer.lora_B["default"].weight.grad))
    (x, a, b), (frozen_x, frozen_a, frozen_b) = gradients
    torch.testing.assert_close(frozen_x, x)
    torch.testing.assert_close(frozen_a[2], a[2])
    torch.testing.assert_close(frozen_b[:, 2], b[:, 2])
    assert not frozen_a[[0, 1, 3]].any() and not frozen_b[:, [0, 1, 3]].any()


@pytest.mark.parametrize("optimizer", ["adamw_torch", "sgd"])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_confined_step_moves_the_ranks_it_reaches_and_no_other(frozen: bool, optimizer: str, tmp_path: Path) -> None:
    method = dylora(frozen=frozen, confine=True)
    momentum = "momentum=0.9" if optimizer == "sgd" else None
    trainer = trainer_for(method, "gpt2", tmp_path, 20, optim=optimizer, optim_args=momentum)
    watch = Watch(method)
    trainer.add_callback(watch)
    trainer.train()
    assert set(watch.drawn) == {1, 2, 3, 4}
    for b, (before, after) in zip(watch.drawn, pairwise(watch.values), strict=True):
        reached = {b - 1} if frozen else set(range(b))
        for name in before:
            changed = (before[name] != after[name]).any(dim=1 if "lora_A" in name else 0)
            moved = {index for index in range(RANK) if changed[index]}
            assert moved <= reached
            if "lora_B" in name:
                assert moved == reached


class Authors:
    """One layer of the authors' code (loralib's ``dynamic``), stepped by AdamW as written down: nothing of ours."""

    def __init__(self, a: torch.Tensor, c: torch.Tensor) -> None:
        self.factors = [a.detach().T.clone(), c.detach().clone()]  # ranks along the last axis
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self.factors]
        self.steps = 0

    def step(self, x: torch.Tensor, target: torch.Tensor, b: int, *, frozen: bool, confine: bool) -> None:
        """A step of ``h = x A B`` towards the target, with the first b ranks."""
        leaves = [p.clone().requires_grad_() for p in self.factors]
        sliced = [
            (torch.cat([p[:, : b - 1].detach(), p[:, b - 1 : b]], dim=-1) if frozen else p[:, :b]) * (RANK / b) ** 0.5
            for p in leaves
        ]
        output = x @ sliced[0] @ sliced[1].T * (ALPHA / RANK)
        gradients = torch.autograd.grad((output - target).square().mean(), leaves)
        self.steps += 1
        reached = torch.zeros(RANK)
        reached[b - 1 if frozen else 0 : b] = 1
        moves = reached if confine else torch.ones(RANK)
        for p, (m, v), g in zip(self.factors, self.moments, gradients, strict=True):
            m += moves * (1 - 0.9) * (g - m)
            v += moves * (1 - 0.999) * (g * g - v)
            unbiased = m / (1 - 0.9**self.steps), v / (1 - 0.999**self.steps)
            p -= moves * 1e-2 * (0.1 * p + unbiased[0] / (unbiased[1].sqrt() + 1e-8))


@pytest.mark.parametrize("confine", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_steps_equal_those_of_the_authors_code(frozen: bool, confine: bool) -> None:
    method = prepared(frozen=frozen, confine=confine)
    callback: Any = method.callbacks()[0]
    layer = method.adapted_layers()[NAME].train()
    parameters = [layer.lora_A["default"].weight, layer.lora_B["default"].weight]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1)
    theirs = Authors(*parameters)
    x, target = torch.randn(2, 16, 32)
    for step in range(25):
        b = method.ranks.draw(seed=1, step=step)
        output = layer(x) - layer.get_base_layer()(x)
        (output - target).square().mean().backward()
        callback.on_pre_optimizer_step(None, None, None, optimizer=optimizer)
        optimizer.step()
        callback.on_optimizer_step(None, None, None, optimizer=optimizer)
        optimizer.zero_grad()
        theirs.step(x, target, b, frozen=frozen, confine=confine)
        for ours, other in zip([parameters[0].T, parameters[1]], theirs.factors, strict=True):
            torch.testing.assert_close(ours.detach(), other, atol=1e-4, rtol=1e-3)


def test_by_default_a_rank_that_a_step_does_not_reach_moves_on(tmp_path: Path) -> None:
    method = dylora()
    trainer = trainer_for(method, "gpt2", tmp_path, 12)
    watch = Watch(method)
    trainer.add_callback(watch)
    trainer.train()
    for b, (before, after) in list(zip(watch.drawn, pairwise(watch.values), strict=True))[1:]:
        if b < RANK:
            assert all((before[name] != after[name])[b:].any() for name in before if "lora_A" in name)


@pytest.mark.parametrize("frozen", [False, True])
def test_what_a_confined_training_moves_less(frozen: bool, tmp_path: Path) -> None:
    """The numbers of docs/fidelity.md: in 40 steps the last rank moves about half as far; with frozen every rank."""
    moved: dict[bool, list[float]] = {}
    for confine in (False, True):
        torch.manual_seed(0)
        method = dylora(frozen=frozen, confine=confine, learning_rate=1e-3)
        trainer = trainer_for(method, "gpt2", tmp_path / str(confine), 40, weight_decay=0.0)
        watch = Watch(method)
        trainer.add_callback(watch)
        trainer.train()
        changes = [watch.values[-1][name] - watch.values[0][name] for name in watch.values[0] if "lora_B" in name]
        moved[confine] = torch.stack([change.square().sum(0) for change in changes]).sum(0).sqrt().tolist()
    first, *_, last = (plain / confined for plain, confined in zip(moved[False], moved[True], strict=True))
    assert 1.5 < last < 3
    assert 1.5 < first < 4 if frozen else 0.9 < first < 1.1, "without frozen each step reaches the first rank"


def test_reached_ranks_move_as_adamw_moves_them(tmp_path: Path) -> None:
    """At full rank nothing is held back: the step is PEFT LoRA's, bit for bit."""
    runs = []
    for hold in (True, False):
        method = dylora(rank=1, confine=True)
        trainer = trainer_for(method, "gpt2", tmp_path, 5)
        if not hold:
            for callback in method.callbacks():
                trainer.remove_callback(type(callback))
        trainer.train()
        runs.append(factors_of(method.model))
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


def test_an_unreached_rank_keeps_its_moments_in_a_confined_step(tmp_path: Path) -> None:
    method = dylora(confine=True)
    trainer = trainer_for(method, "gpt2", tmp_path, 20)
    moments: list[dict[str, torch.Tensor]] = []

    class Moments(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            named = {p: n for n, p in method.model.named_parameters()}
            held = kwargs["optimizer"].state
            moments.append({named[p]: held[p]["exp_avg_sq"].clone() for p in held if "lora_B" in named[p]})

    watch = Watch(method)
    trainer.add_callback(watch)
    trainer.add_callback(Moments())
    trainer.train()
    for b, (before, after) in zip(watch.drawn[1:], pairwise(moments), strict=True):
        for name in before:
            assert torch.equal(before[name][:, b:], after[name][:, b:])
            assert not torch.equal(before[name][:, :b], after[name][:, :b])


def test_accumulation_uses_one_rank_per_step_and_gives_the_same_factors(tmp_path: Path) -> None:
    runs = []
    for size, accumulation in ((8, 1), (2, 4)):
        method = dylora()
        trainer = trainer_for(
            method,
            "gpt2",
            tmp_path,
            8,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
        )
        trainer.train()
        runs.append(factors_of(method.model))
    for name in runs[0]:
        torch.testing.assert_close(runs[0][name], runs[1][name], atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("options", [{}, {"confine": True}, {"frozen": True, "confine": True}])
def test_a_resumed_run_ends_bitwise_as_an_undisturbed_one(options: dict[str, bool], tmp_path: Path) -> None:
    method = dylora(**options, dropout=0.1)
    trainer_for(method, "gpt2", tmp_path / "whole", 14, save_strategy="steps", save_steps=6).train()
    whole = factors_of(method.model)
    resumed = dylora(**options, dropout=0.1)
    trainer = trainer_for(resumed, "gpt2", tmp_path / "whole", 14)
    trainer.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-6"))
    again = factors_of(resumed.model)
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize("family", ["gpt2", "roberta"])
@pytest.mark.parametrize("eval_rank", [None, 2])
def test_evaluation_merge_and_export_at_a_rank(family: str, eval_rank: int | None, tmp_path: Path) -> None:
    method = dylora(eval_rank=eval_rank)
    trainer_for(method, family, tmp_path, steps=12).train()
    trained = logits(method.model, family)
    assert (trained - logits(stock_model(family), family)).abs().max() > 0.1
    b = eval_rank or RANK
    if family == "gpt2":
        layer = method.adapted_layers()[NAME]
        x = torch.randn(5, 32)
        a, c = layer.lora_A["default"].weight[:b], layer.lora_B["default"].weight[:, :b]
        expected = layer.get_base_layer()(x) + ALPHA / b * x @ a.T @ c.T
        torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)
    method.export(tmp_path / "adapter")
    stock = PeftModel.from_pretrained(stock_model(family), str(tmp_path / "adapter"))
    assert stock.peft_config["default"].r == b * (2 if family == "gpt2" else 1)  # q and v in one fused layer
    torch.testing.assert_close(logits(stock, family), trained, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits(method.merge(), family), trained, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eval_rank": 5}, "method.eval_rank must be an integer from 1 to 4 (method.rank), got 5"),
        ({"eval_rank": 0}, "got 0"),
        ({"frozen": "yes"}, "method.frozen must be true or false, got 'yes'"),
        ({"confine": 1}, "method.confine must be true or false, got 1"),
        ({"rank": 64}, "method.rank must be an integer from 1 to 32"),
    ],
)
def test_bad_arguments_are_one_clear_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        dylora(**arguments).validate(32, 100)
    assert message in str(caught.value)
