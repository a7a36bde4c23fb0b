"""Does the product move where the weight would? The cosine of Δ(BA) and −∇W, Delta-LoRA's motive (the paper's Eq. 5).

W has no gradient in these methods. For the steps that are looked at, the dense one of two layers is made from their
inputs x and the gradients g of their outputs: ∇W = Σ g xᵀ over the tokens of the step.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from delta_lora.methods.lora import LowRank
from delta_lora.methods.peft_method import ADAPTER
from delta_lora.suite.config.cell import Cell
from delta_lora.suite.machine import ranks

ALIGNMENT = "alignment/"  # before the layer's name in the log


class Seen:
    """One adapted layer in a step: ∇W (d, c) so far, and the product BA before the step."""

    def __init__(self, layer: Any) -> None:
        self.a: nn.Parameter = layer.lora_A[ADAPTER].weight
        self.b: nn.Parameter = layer.lora_B[ADAPTER].weight
        self.gradient: Tensor | None = None
        self.before = self.product()
        self.handle: RemovableHandle = layer.register_forward_hook(self.watch)

    def watch(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Have the backward pass add this forward pass's part of ∇W."""
        if output.requires_grad:
            x = inputs[0].detach()
            output.register_hook(lambda g: self.add(g, x))

    def add(self, g: Tensor, x: Tensor) -> None:
        """∇W ← ∇W + Σ g xᵀ over the tokens; g (…, d), x (…, c)."""
        part = g.detach().flatten(0, -2).float().T @ x.flatten(0, -2).float()
        self.gradient = part if self.gradient is None else self.gradient + part

    @torch.no_grad()
    def product(self) -> Tensor:
        """BA now, (d, c)."""
        return self.b.float() @ self.a.float()

    def cosine(self) -> float | None:
        """Of Δ(BA) and −∇W, the gradient summed over the processes; None where one of the two is 0."""
        moved, gradient = self.product() - self.before, self.gradient
        if ranks.count() > 1:
            parts = ranks.gather(None if gradient is None else gradient.cpu())
            gradient = sum((part.to(moved) for part in parts if part is not None), torch.zeros_like(moved))
        if gradient is None or not bool(moved.any()) or not bool(gradient.any()):
            return None
        return float(F.cosine_similarity(moved.flatten(), -gradient.flatten(), dim=0))


class Alignment(TrainerCallback):
    """Logs ``alignment/LAYER``, a cosine, for the first and the last adapted layer, every so many steps from the first.

    Args:
        method: prepared; its adapters are low-rank branches s·BA.
        trainer: of the run.
        every: that many steps.
    """

    def __init__(self, method: LowRank, trainer: Trainer, every: int) -> None:
        layers = method.adapted_layers()
        first, *_, last = layers
        self.layers = {name: layers[name] for name in (first, last)}
        self.trainer, self.every = trainer, every
        self.seen: dict[str, Seen] = {}

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look at this step, where it is one of those."""
        if state.global_step % self.every == 0:
            self.seen = {name: Seen(layer) for name, layer in self.layers.items()}

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say what was seen, under the step that came before."""
        for seen in self.seen.values():
            seen.handle.remove()
        cosines = {f"{ALIGNMENT}{name}": seen.cosine() for name, seen in self.seen.items()}
        if found := {name: cosine for name, cosine in cosines.items() if cosine is not None}:
            self.trainer.log(found)
        self.seen = {}


def alignment(cell: Cell, trainer: Trainer) -> list[TrainerCallback]:
    """The callback of a run that asks for it (``task.train.alignment_steps``)."""
    if cell.train.alignment_steps is None:
        return []
    assert isinstance(cell.method, LowRank)  # the cell has been checked
    return [Alignment(cell.method, trainer, cell.train.alignment_steps)]
