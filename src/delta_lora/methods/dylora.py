"""DyLoRA (Valipour et al. 2023, arXiv 2210.07558): LoRA whose first b ranks work alone, for every b."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from delta_lora.methods import checks
from delta_lora.methods.base import ModelSpec, Schedule
from delta_lora.methods.lora import LowRank
from delta_lora.updates import LowRankUpdate

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, TrainerCallback


@dataclass(kw_only=True, eq=False)
class DyLora(LowRank):
    """h = W x + (α/b) B[:, :b] A[:b] x, with b drawn uniformly from 1 … r for every optimizer step.

    One b serves all layers and all micro-batches of a step, so a step costs what LoRA's costs. Ranks 1 … b have a
    gradient, or with ``frozen`` only the b-th; with ``confine`` the optimizer's step moves no others, see
    ``nested_ranks.NestedRanks``. ``eval_rank`` is the b of evaluation, merging and export (None: r).
    """

    frozen: bool = False
    confine: bool = False
    eval_rank: int | None = None

    def validate(self, largest_rank: int, total_steps: int) -> None:
        """Check the arguments.

        Raises:
            UserError: LoRA's reasons, or ``eval_rank`` not in 1 … rank.
        """
        super().validate(largest_rank, total_steps)
        checks.boolean("frozen", self.frozen)
        checks.boolean("confine", self.confine)
        if self.eval_rank is not None:
            checks.integer("eval_rank", self.eval_rank, 1, self.rank, "method.rank")

    def prepare(self, model: PreTrainedModel, spec: ModelSpec, schedule: Schedule) -> nn.Module:
        """Return ``model`` wrapped by PEFT; its LoRA layers are truncated from now on."""
        from delta_lora.methods.nested_ranks import NestedRanks  # imported late: it loads torch and PEFT

        prepared = super().prepare(model, spec, schedule)
        self.ranks = NestedRanks(
            list(self.adapted_layers().values()), self.rank, self.eval_rank or self.rank, frozen=self.frozen
        )
        return prepared

    def callbacks(self) -> list[TrainerCallback]:
        """The callback that draws b and, with ``confine``, keeps the ranks that a step does not reach."""
        from delta_lora.methods.nested_ranks import NestedRanksCallback

        return [NestedRanksCallback(self.ranks, confine=self.confine)]

    def branches(self) -> dict[str, LowRankUpdate]:
        """(α/b) B[:, :b] A[:b] of each adapted layer at b = ``eval_rank``."""
        b, found = self.ranks.eval_rank, {}
        for name, layer in self.adapted_layers().items():
            down, up = (part["default"].get_parameter("weight").detach() for part in (layer.lora_A, layer.lora_B))
            found[name] = LowRankUpdate(up[:, :b] * (self.alpha / b), down[:b])
        return found

    def merge(self) -> PreTrainedModel:
        """Return the plain model with the update at ``eval_rank`` folded in. Export first."""
        b = self.ranks.eval_rank
        for layer in self.adapted_layers().values():
            layer.lora_A["default"].get_parameter("weight").data[b:] = 0
            layer.scaling["default"] = self.alpha / b
        return super().merge()
