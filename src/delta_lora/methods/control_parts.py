"""The controls of Delta-LoRA at work (:mod:`delta_lora.methods.controls`): Algorithm 1 without a part, and a slow B."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from delta_lora import DeltaLora, DeltaLoraCallback
from delta_lora.layers import add_hook
from delta_lora.reference import Algorithm1

Part = Literal["anchor", "hook"]


class Ablation(DeltaLora):
    """Algorithm 1 (``literal``) without one of its parts, from step K+1 on.

    ``anchor``: W moves by λ s B A as a whole, not from the anchor on: W = W_0 + λ s B A, so that its scale jumps from
    s to (1+λ)s at once. As the fold it is LoRA's branch at (1+λ)s with the gradients' hook, and no fold.
    ``hook``: the gradients of A and B are (1+λ) times as long, as back-propagation through the fold gives them: it is
    the fold without the hook.
    """

    def __init__(self, model: nn.Module, update_ratio: float, start_steps: int, *, without: Part) -> None:
        super().__init__(model, update_ratio, start_steps, literal=True)
        self.without = without
        self._longer: list[RemovableHandle] = []

    def step(self) -> None:
        """As :meth:`DeltaLora.step`; without the anchor, the first time W moves by all that the branch has learned."""
        before = self.anchored
        super().step()
        if self.without == "anchor" and self.anchored and not before:
            for form in self._forms:
                assert isinstance(form, Algorithm1)
                form.previous = form.previous[0], torch.zeros_like(form.previous[1])
                form.update()

    def restore(self) -> None:
        """As :meth:`DeltaLora.restore`."""
        super().restore()
        self._shorten()

    def detach(self) -> None:
        """As :meth:`DeltaLora.detach`."""
        super().detach()
        self._shorten()

    def _place(self, anchors: list[tuple[Tensor, Tensor, bool]]) -> None:
        if self.without == "anchor":
            anchors = [(a, torch.zeros_like(b), moved) for a, b, moved in anchors]
        super()._place(anchors)
        if self.without == "hook":
            factors = [factor for layer in self._layers for factor in (layer.a, layer.b)]
            self._longer = [add_hook(factor, self._lengthen) for factor in factors]

    def _lengthen(self, gradient: Tensor | None) -> Tensor | None:
        return None if gradient is None else gradient * (1 + self.update_ratio)

    def _shorten(self) -> None:
        for handle in self._longer:
            handle.remove()
        self._longer = []


class AblationCallback(DeltaLoraCallback):
    """Runs an :class:`Ablation` inside the Trainer."""

    def __init__(self, update_ratio: float, start_steps: int, without: Part) -> None:
        super().__init__(update_ratio, start_steps, literal=True, remind=False)
        self.without = without

    def make(self, model: nn.Module) -> DeltaLora:
        """A new :class:`Ablation` of this model."""
        arguments = self._arguments
        return Ablation(model, arguments["update_ratio"], arguments["start_steps"], without=self.without)


class SlowStart(TrainerCallback):
    """Divides the learning rate of ``parameters`` by ``factor`` in the steps t ≤ ``last`` (t from 0).

    A step is shortened after the optimizer has made it, weight decay and all, so that the optimizer's state is that of
    the full rate: AdamW's does not depend on it.
    """

    def __init__(self, parameters: list[nn.Parameter], factor: float, last: int) -> None:
        self.parameters, self.factor, self.last = parameters, factor, last
        self.before: list[Tensor] = []

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Remember where they are."""
        if state.global_step <= self.last:
            self.before = [parameter.detach().clone() for parameter in self.parameters]

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Go back all of the way but 1 / ``factor``."""
        with torch.no_grad():
            for parameter, before in zip(self.parameters, self.before, strict=False):
                parameter.copy_(torch.lerp(before, parameter, 1 / self.factor))
        self.before = []
