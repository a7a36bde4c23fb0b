"""LoRA (Hu et al. 2022, arXiv 2106.09685) and its relatives, from PEFT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from delta_lora.errors import UserError
from delta_lora.methods import checks
from delta_lora.methods.base import ModelSpec, Schedule
from delta_lora.methods.peft_method import ADAPTER, PeftMethod, check_init, ranks_of
from delta_lora.updates import LowRankUpdate

if TYPE_CHECKING:
    from peft import LoraConfig
    from torch import nn
    from transformers import PreTrainedModel

PEFT_OPTIONS = (
    "alpha_pattern",
    "init_lora_weights",
    "layers_to_transform",
    "rank_pattern",
    "use_dora",
    "use_rslora",
)


@dataclass(kw_only=True, eq=False)
class LowRank(PeftMethod):
    """What LoRA, DyLoRA and Delta-LoRA share: a branch s·B A, s = α/r, beside each target W (d, c).

    ``rank`` r, ``alpha`` α, ``dropout`` on the branch's input; A (r, c) starts Kaiming-uniform, B (d, r) at
    zero. A subclass with another adapter overrides :meth:`adapter_config`.
    """

    rank: int
    alpha: float
    dropout: float = 0.1

    def adapter_config(self) -> LoraConfig:
        """PEFT's configuration of the adapter; ``prepare`` adds the modules. ``init_lora_weights`` may be PiSSA's."""
        from peft import LoraConfig  # imported late: it takes seconds, and the settings alone are known without it

        # PEFT's signature wants an int α, its arithmetic does not.
        return LoraConfig(r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout)  # type: ignore[arg-type]

    def validate(self, largest_rank: int, total_steps: int) -> None:
        """Check the arguments.

        Raises:
            UserError: a rank not in 1 … ``largest_rank``, alpha ≤ 0, dropout outside [0, 1), or a start of the adapter
                after which W_0 is not known (it needs data, or quantizes).
        """
        super().validate(largest_rank, total_steps)
        why = "the smallest dimension of the adapted layers"
        checks.integer("rank", self.rank, 1, largest_rank, why)
        checks.number("alpha", self.alpha, 0, ends="(]")
        checks.number("dropout", self.dropout, 0, 1, "[)")
        try:
            config = self.adapter_config()
        except (TypeError, ValueError) as error:
            raise UserError(f"method: PEFT refuses this adapter: {' '.join(str(error).split())}") from error
        for name in ("rank_pattern", "alpha_pattern"):
            if not isinstance(getattr(config, name) or {}, Mapping):
                raise UserError(
                    f"method.peft.{name} must give a number for each module name, got {getattr(config, name)!r}"
                )
        for rank in ranks_of(config):
            checks.integer("peft.rank_pattern", rank, 1, largest_rank, why)
        for alpha in (config.alpha_pattern or {}).values():
            checks.number("peft.alpha_pattern", alpha, 0, ends="(]")
        check_init(config)

    def prepare(self, model: PreTrainedModel, spec: ModelSpec, schedule: Schedule) -> nn.Module:
        """Return ``model`` wrapped by PEFT, with a LoRA branch on every target module."""
        return self.attach(model, spec, self.adapter_config())

    def rank_limit(self) -> int | None:
        """The largest rank, and as much again where the adapter's start rewrites W; DoRA has no limit."""
        from delta_lora import inits

        config = self.adapter_config()
        if config.use_dora:
            return None
        return max(ranks_of(config)) * (2 if inits.rewrites(config.init_lora_weights) else 1)

    def branches(self) -> dict[str, LowRankUpdate]:
        """s·B A of each adapted layer, with DoRA's magnitudes where there are any."""
        found = {}
        for name, layer in self.adapted_layers().items():
            a = layer.lora_A[ADAPTER].get_parameter("weight").detach()
            b = layer.lora_B[ADAPTER].get_parameter("weight").detach()
            magnitude = None
            if ADAPTER in layer.lora_magnitude_vector:
                magnitude = layer.lora_magnitude_vector[ADAPTER].get_parameter("weight").detach()
            found[name] = LowRankUpdate(b * layer.scaling[ADAPTER], a, magnitude)
        return found


@dataclass(kw_only=True, eq=False)
class Lora(LowRank):
    """h = W x + (α/r) B A x with W frozen.

    ``peft`` holds further ``peft.LoraConfig`` arguments (``use_dora``, ``use_rslora``, ``init_lora_weights``, …), so
    that a relative of LoRA is one configuration file.
    """

    peft: Mapping[str, Any] = field(default_factory=dict)

    def validate(self, largest_rank: int, total_steps: int) -> None:
        """Check the arguments.

        Raises:
            UserError: a bad rank, alpha or dropout, or a PEFT option that is unknown or that no export could hold.
        """
        unknown = sorted(set(map(str, self.peft)) - set(PEFT_OPTIONS))
        if unknown:
            raise UserError(f"method.peft has no option {', '.join(unknown)}; it takes {', '.join(PEFT_OPTIONS)}")
        super().validate(largest_rank, total_steps)

    def adapter_config(self) -> LoraConfig:
        """LoRA's, with the options in ``peft``."""
        from peft import LoraConfig

        from delta_lora.peft_config import plain

        options: dict[str, Any] = {"r": self.rank, "lora_alpha": self.alpha, "lora_dropout": self.dropout}
        return LoraConfig(**options, **plain(self.peft))
