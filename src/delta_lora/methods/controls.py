"""Controls of Delta-LoRA, for research: parts of it taken out or put elsewhere, to see what each is worth.

They are switches of the reference implementation, Algorithm 1 as printed, and of plain LoRA; ``DeltaLora`` has none of
them. What each isolates: docs/controls.md.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from delta_lora import DeltaLora, DeltaLoraCallback
from delta_lora.errors import UserError
from delta_lora.layers import add_hook
from delta_lora.methods import checks
from delta_lora.methods.base import ModelSpec, Schedule, setting
from delta_lora.methods.delta_lora import DeltaLoraMethod
from delta_lora.methods.lora import Lora
from delta_lora.methods.peft_method import ADAPTER
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


@dataclass(kw_only=True, eq=False)
class DeltaLoraAblation(DeltaLoraMethod):
    """Delta-LoRA by the literal loop ``without`` its ``anchor`` or its ``hook`` (:class:`Ablation`)."""

    without: Part
    literal: bool = True

    def validate(self, largest_rank: int, total_steps: int) -> None:
        """Check the arguments.

        Raises:
            UserError: Delta-LoRA's reasons, another part, or the folded form, which has no such switch.
        """
        super().validate(largest_rank, total_steps)
        if self.without not in get_args(Part):
            raise UserError(f"method.without must be {' or '.join(get_args(Part))}, got {self.without!r}")
        if not self.literal:
            raise UserError("method.without is a switch of Algorithm 1 as printed; set method.literal=true")

    def make_callback(self) -> DeltaLoraCallback:
        """The callback that runs it."""
        return AblationCallback(self.update_ratio, self.start_steps, self.without)


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


@dataclass(kw_only=True, eq=False)
class SlowStartLora(Lora):
    """LoRA whose B learns at 1 / (1 + ``update_ratio``) of the rate in the steps t ≤ ``start_steps`` (t from 0).

    With (1+λ)α its update grows until then as LoRA's with α does, as Delta-LoRA's, and later as Delta-LoRA's: without
    an anchor, and without a change of the scale.
    """

    update_ratio: float = setting(by_task=True)
    start_steps: int = setting(by_task=True)

    def validate(self, largest_rank: int, total_steps: int) -> None:
        """Check the arguments.

        Raises:
            UserError: LoRA's reasons; λ or K negative, or K so late that B would never learn at its rate.
        """
        super().validate(largest_rank, total_steps)
        checks.number("update_ratio", self.update_ratio, 0)
        checks.integer("start_steps", self.start_steps, 0, total_steps - 2, f"the run has {total_steps} steps")

    def prepare(self, model: PreTrainedModel, spec: ModelSpec, schedule: Schedule) -> nn.Module:
        """As LoRA's; B is slow while training with ``callbacks()``."""
        prepared = super().prepare(model, spec, schedule)
        layers = self.adapted_layers().values()
        slow = [layer.lora_B[ADAPTER].get_parameter("weight") for layer in layers]
        self._slow = SlowStart(slow, 1 + self.update_ratio, self.start_steps)
        return prepared

    def callbacks(self) -> list[TrainerCallback]:
        """The slow start."""
        return [self._slow]
