"""AdaLoRA (Zhang et al. 2023, arXiv 2303.10512), from PEFT: rank where the loss is sensitive."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from delta_lora.errors import UserError
from delta_lora.methods import checks
from delta_lora.methods.base import ModelSpec, Schedule, setting
from delta_lora.methods.peft_method import ADAPTER, PeftMethod
from delta_lora.updates import LowRankUpdate

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, TrainerCallback


@dataclass(kw_only=True, eq=False)
class AdaLora(PeftMethod):
    """ΔW = (α/r₀) P Λ Q with P (d, r₀), Λ diagonal, Q (r₀, c), r₀ = ``init_rank``.

    For ``warmup_fraction`` of the steps all triplets stay; then the budget falls cubically to ``target_rank``
    a layer on average (every ``interval_fraction`` of the steps, Λ's entries of least smoothed sensitivity
    become zero); the last ``final_fraction`` of the steps trains what is left. ``orthogonality`` weighs the
    mean over all P and Q of ‖PᵀP − I‖ and ‖QQᵀ − I‖ in the loss.
    """

    init_rank: int
    target_rank: int
    alpha: float
    dropout: float = 0.1
    warmup_fraction: float = setting(delays=True, default=0.1)
    final_fraction: float = 0.5
    interval_fraction: float = 0.0015
    orthogonality: float = 0.1
    beta1: float = 0.85
    beta2: float = 0.85

    def validate(self, largest_rank: int, total_steps: int) -> None:
        """Check the arguments.

        Raises:
            UserError: ranks out of order or too large, a schedule without room to prune in ``total_steps``,
                other values out of range.
        """
        super().validate(largest_rank, total_steps)
        why = "the smallest dimension of the adapted layers"
        checks.integer("init_rank", self.init_rank, 2, largest_rank, why)
        checks.integer("target_rank", self.target_rank, 1, self.init_rank - 1, "below method.init_rank")
        checks.number("alpha", self.alpha, 0, ends="(]")
        checks.number("dropout", self.dropout, 0, 1, "[)")
        checks.number("warmup_fraction", self.warmup_fraction, 0, 1, "[)")
        checks.number("final_fraction", self.final_fraction, 0, 1, "()")
        checks.number("interval_fraction", self.interval_fraction, 0, 1)
        checks.number("orthogonality", self.orthogonality, 0)
        checks.number("beta1", self.beta1, 0, 1, "()")
        checks.number("beta2", self.beta2, 0, 1, "()")
        tinit, tfinal, _ = self.steps(total_steps)
        if tinit >= total_steps - tfinal:
            raise UserError(
                f"adalora has no step left to prune in: of {total_steps} steps, {tinit} warm up "
                f"(method.warmup_fraction={self.warmup_fraction:g}) and {tfinal} are final "
                f"(method.final_fraction={self.final_fraction:g}); lower one or train longer"
            )

    def steps(self, total_steps: int) -> tuple[int, int, int]:
        """The fractions in optimizer steps of a run of ``total_steps``: PEFT's (tinit, tfinal, deltaT)."""
        return (
            int(self.warmup_fraction * total_steps),
            math.ceil(self.final_fraction * total_steps),
            max(1, round(self.interval_fraction * total_steps)),
        )

    def prepare(self, model: PreTrainedModel, spec: ModelSpec, schedule: Schedule) -> nn.Module:
        """Return ``model`` wrapped by PEFT, its allocator set up for ``schedule.total_steps``."""
        from peft import AdaLoraConfig  # imported late: it takes seconds
        from peft.tuners.adalora import AdaLoraLayer

        tinit, tfinal, interval = self.steps(schedule.total_steps)
        config = AdaLoraConfig(
            init_r=self.init_rank,
            target_r=self.target_rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            total_step=schedule.total_steps,
            tinit=tinit,
            tfinal=tfinal,
            deltaT=interval,
            beta1=self.beta1,
            beta2=self.beta2,
            orth_reg_weight=0.0,  # the callback adds it, see AdaLoraCallback
        )
        prepared = self.attach(model, spec, config)
        for layer in self.adapted_layers().values():
            # A constant, which PEFT makes trainable when the base model is on another device than the CPU.
            assert isinstance(layer, AdaLoraLayer)
            layer.ranknum["default"].requires_grad_(False)
        return prepared

    def callbacks(self) -> list[TrainerCallback]:
        """The callback that prunes, regularises, and saves and restores the allocator."""
        from delta_lora.methods.adalora_callback import AdaLoraCallback

        return [AdaLoraCallback(self.peft_model, self.orthogonality)]

    def rank_limit(self) -> int | None:
        """``init_rank``: a layer may keep all its triplets while others lose theirs."""
        return self.init_rank

    def branches(self) -> dict[str, LowRankUpdate]:
        """P and ΛQ of each layer without the pruned triplets (one zero triplet where all are pruned)."""
        import torch
        from peft.tuners.adalora import AdaLoraLayer

        found = {}
        for name, layer in self.adapted_layers().items():
            assert isinstance(layer, AdaLoraLayer)
            e = layer.lora_E[ADAPTER].detach()
            kept = e.view(-1).nonzero().view(-1)
            if not len(kept):
                kept = torch.zeros(1, dtype=torch.long, device=e.device)
            factor_a: Any = layer.lora_A[ADAPTER]  # a bare parameter here, unlike in LoRA's layers
            factor_b: Any = layer.lora_B[ADAPTER]
            scale = layer.scaling[ADAPTER] / (layer.ranknum[ADAPTER].item() + 1e-5)
            found[name] = LowRankUpdate(factor_b.detach()[:, kept] * scale, (factor_a.detach() * e)[kept])
        return found
