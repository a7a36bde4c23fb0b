"""Delta-LoRA (arXiv 2309.02411) as a method of the suite; the library does the work."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from delta_lora.errors import UserError
from delta_lora.methods.base import Counts, ModelSpec, Schedule, setting
from delta_lora.methods.lora import LowRank
from delta_lora.methods.peft_method import ranks_of
from delta_lora.updates import LowRankUpdate

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, TrainerCallback

    from delta_lora import DeltaLora, DeltaLoraCallback


@dataclass(kw_only=True, eq=False)
class DeltaLoraMethod(LowRank):
    """LoRA whose frozen weights move along: W ← W + λ (α/r) (B⁺A⁺ − BA) after each step t > K (t from 0).

    ``update_ratio`` λ, ``start_steps`` K. ``literal`` runs Algorithm 1 as printed, which dropout in the
    branch needs; otherwise the sum is folded, exact and as cheap as LoRA (:class:`delta_lora.DeltaLora`).
    """

    update_ratio: float = setting(by_task=True)
    start_steps: int = setting(by_task=True, delays=True)
    dropout: float = 0.0
    literal: bool = False

    def validate(self, largest_rank: int, total_steps: int) -> None:
        """Check the arguments.

        Raises:
            UserError: LoRA's reasons, λ or K negative, K so late that W would never move in ``total_steps``,
                or dropout without ``literal``.
        """
        from delta_lora.state import Settings  # imported late: it loads torch

        super().validate(largest_rank, total_steps)
        try:
            Settings(self.update_ratio, self.start_steps, self.literal)
        except UserError as error:
            raise UserError(f"method.{error}") from None
        # W first moves with the (K+2)-th step.
        if self.start_steps > total_steps - 2:
            remedy = f"give at most {total_steps - 2}" if total_steps > 1 else "train for at least 2 steps"
            raise UserError(
                f"method.start_steps={self.start_steps} is beyond the run's {total_steps} steps: W would "
                f"never move, which is LoRA; {remedy}"
            )
        if self.dropout > 0 and not self.literal:
            raise UserError(
                f"method.dropout={self.dropout:g} needs method.literal=true: the folded form keeps W's update "
                "in the branch, where dropout would reach it; set literal=true or dropout=0 (as the paper does)"
            )

    def prepare(self, model: PreTrainedModel, spec: ModelSpec, schedule: Schedule) -> nn.Module:
        """Return ``model`` wrapped by PEFT; W moves once training with ``callbacks()`` is past K."""
        prepared = super().prepare(model, spec, schedule)
        self._callback = self.make_callback()
        self._callback.attach(self.peft_model)
        return prepared

    def make_callback(self) -> DeltaLoraCallback:
        """The library's callback; it reminds of nothing, since every run exports its adapter."""
        from delta_lora import DeltaLoraCallback

        return DeltaLoraCallback(self.update_ratio, self.start_steps, literal=self.literal, remind=False)

    @property
    def delta(self) -> DeltaLora:
        """The library's object at work."""
        return self._callback.attach(self.peft_model)

    @property
    def rewrites_base(self) -> bool:
        """Algorithm 1 as printed does; otherwise a base in 16 bits keeps the anchor in a branch."""
        return self.literal

    def callbacks(self) -> list[TrainerCallback]:
        """The library's callback."""
        return [self._callback]

    def counts(self) -> Counts:
        """As LoRA's, and the adapted W as extra updatable parameters (none at λ = 0)."""
        weights = [layer.get_base_layer().get_parameter("weight") for layer in self.adapted_layers().values()]
        moving = sum(weight.numel() for weight in weights) if self.update_ratio > 0 else 0
        return replace(super().counts(), extra_updatable=moving)

    def rank_limit(self) -> int | None:
        """Twice LoRA's: A and B at the anchor and at the end; and what the adapter's start has taken out of W."""
        limit = super().rank_limit()
        anchor = max(ranks_of(self.adapter_config())) if self.update_ratio > 0 else 0
        return None if limit is None else limit + anchor

    def exported_size(self) -> int:
        """As LoRA's, and the anchor's factors."""
        return super().exported_size() + (self.counts().trainable if self.update_ratio > 0 else 0)

    def merge(self) -> PreTrainedModel:
        """Return the stock model with everything learned folded in (GPT-2 fused again); it uses the prepared one up."""
        merged = self.delta.merge()
        self._model = None
        return merged

    @property
    def offsets(self) -> dict[str, LowRankUpdate]:
        """By layer, how far W was from the checkpoint's W_0 before training: the library counts it."""
        return self.delta.offsets

    def learned(self) -> dict[str, LowRankUpdate]:
        """W − W_0 of each adapted weight, W's own movement included."""
        return {name: LowRankUpdate(b, a) for name, b, a in self.delta.effective_delta()}

    def base_updates(self) -> dict[str, LowRankUpdate]:
        """How far W itself is from W_0 now."""
        return self.delta.base_updates()
