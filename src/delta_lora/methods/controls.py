"""Controls of Delta-LoRA, for research: parts of it taken out or put elsewhere, to see what each is worth.

They are switches of the reference implementation, Algorithm 1 as printed, and of plain LoRA; ``DeltaLora`` has none of
them. What each isolates: docs/controls.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from delta_lora.errors import UserError
from delta_lora.methods import checks
from delta_lora.methods.base import ModelSpec, Schedule, setting
from delta_lora.methods.delta_lora import DeltaLoraMethod
from delta_lora.methods.lora import Lora
from delta_lora.methods.peft_method import ADAPTER

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, TrainerCallback

    from delta_lora import DeltaLoraCallback
    from delta_lora.methods.control_parts import Part


@dataclass(kw_only=True, eq=False)
class DeltaLoraAblation(DeltaLoraMethod):
    """Delta-LoRA by the literal loop ``without`` its ``anchor`` or its ``hook`` (``control_parts.Ablation``)."""

    without: Part
    literal: bool = True

    def validate(self, largest_rank: int, total_steps: int) -> None:
        """Check the arguments.

        Raises:
            UserError: Delta-LoRA's reasons, another part, or the folded form, which has no such switch.
        """
        from delta_lora.methods.control_parts import Part  # imported late: it loads the library

        super().validate(largest_rank, total_steps)
        if self.without not in get_args(Part):
            raise UserError(f"method.without must be {' or '.join(get_args(Part))}, got {self.without!r}")
        if not self.literal:
            raise UserError("method.without is a switch of Algorithm 1 as printed; set method.literal=true")

    def make_callback(self) -> DeltaLoraCallback:
        """The callback that runs it."""
        from delta_lora.methods.control_parts import AblationCallback

        return AblationCallback(self.update_ratio, self.start_steps, self.without)


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
        from delta_lora.methods.control_parts import SlowStart

        prepared = super().prepare(model, spec, schedule)
        layers = self.adapted_layers().values()
        slow = [layer.lora_B[ADAPTER].get_parameter("weight") for layer in layers]
        self._slow = SlowStart(slow, 1 + self.update_ratio, self.start_steps)
        return prepared

    def callbacks(self) -> list[TrainerCallback]:
        """The slow start."""
        return [self._slow]
