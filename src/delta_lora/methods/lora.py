"""LoRA (Hu et al. 2022, arXiv 2106.09685) and its relatives, from PEFT."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from peft import LoraConfig
from torch import nn
from transformers import PreTrainedModel

from delta_lora.errors import UserError
from delta_lora.methods import checks
from delta_lora.methods.adapter_file import Factors, write_adapter
from delta_lora.methods.base import LayerSizes, ModelSpec, PeftMethod, Schedule, Update

PEFT_OPTIONS = (
    "alpha_pattern",
    "init_lora_weights",
    "layers_to_transform",
    "rank_pattern",
    "use_dora",
    "use_rslora",
)
# PiSSA, OLoRA and the like rewrite the base weight: an adapter trained so fits no untouched checkpoint.
INITIALISATIONS = (True, False, "gaussian", "orthogonal")


@dataclass(kw_only=True, eq=False)
class LowRank(PeftMethod):
    """What LoRA, DyLoRA and Delta-LoRA share: a branch s·B A, s = α/r, beside each target W (d, c).

    ``rank`` r, ``alpha`` α, ``dropout`` on the branch's input; A (r, c) starts Kaiming-uniform, B (d, r) at
    zero.
    """

    rank: int
    alpha: float
    dropout: float = 0.1

    def validate(self, sizes: LayerSizes, total_steps: int) -> None:
        """Check the arguments.

        Raises:
            UserError: rank not in 1 … ``sizes.smallest``, alpha ≤ 0, dropout outside [0, 1).
        """
        super().validate(sizes, total_steps)
        checks.integer("rank", self.rank, 1, sizes.smallest, "the smallest dimension of the adapted layers")
        checks.number("alpha", self.alpha, 0, above=True)
        checks.number("dropout", self.dropout, 0, 1, below=True)

    def prepare(self, model: PreTrainedModel, spec: ModelSpec, schedule: Schedule) -> nn.Module:
        """Return ``model`` wrapped by PEFT, with a LoRA branch on every target module."""
        return self._attach(model, spec, self._config())

    def export(self, directory: Path) -> None:
        """Write the adapter, loadable by stock PEFT over the original checkpoint."""
        write_adapter(directory, self.peft_model, self.factors(), self.spec)

    def updates(self, reference: PreTrainedModel) -> Iterator[tuple[str, Update]]:
        """The factors of each layer's update."""
        for name, factors in self.factors().items():
            yield name, factors.update(reference.get_submodule(name).get_parameter("weight"))

    def factors(self) -> dict[str, Factors]:
        """The learned update s·B A of each adapted layer, by the layer's name in the plain model."""
        return {
            name: Factors(
                a=layer.lora_A["default"].get_parameter("weight").detach(),
                b=layer.lora_B["default"].get_parameter("weight").detach(),
                scale=layer.scaling["default"],
            )
            for name, layer in self.adapted_layers().items()
        }

    def _config(self) -> LoraConfig:
        # PEFT's signature wants an int α, its arithmetic does not.
        return LoraConfig(r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout)  # type: ignore[arg-type]


@dataclass(kw_only=True, eq=False)
class Lora(LowRank):
    """h = W x + (α/r) B A x with W frozen.

    ``peft`` holds further ``peft.LoraConfig`` arguments (``use_dora``, ``use_rslora``, …), so that a relative
    of LoRA is one configuration file.
    """

    peft: Mapping[str, Any] = field(default_factory=dict)

    def validate(self, sizes: LayerSizes, total_steps: int) -> None:
        """Check the arguments.

        Raises:
            UserError: a bad rank, alpha or dropout, or a PEFT option that is unknown or would touch W.
        """
        super().validate(sizes, total_steps)
        unknown = sorted(set(map(str, self.peft)) - set(PEFT_OPTIONS))
        if unknown:
            raise UserError(f"method.peft has no option {', '.join(unknown)}; it takes {', '.join(PEFT_OPTIONS)}")
        if self.peft.get("init_lora_weights", True) not in INITIALISATIONS:
            raise UserError(
                f"method.peft.init_lora_weights must be one of {', '.join(map(str, INITIALISATIONS))}, "
                f"got {self.peft['init_lora_weights']!r}"
            )

    def factors(self) -> dict[str, Factors]:
        """The learned update s·B A of each adapted layer, with DoRA's magnitudes where there are any."""
        magnitudes = {
            name: layer.lora_magnitude_vector["default"].get_parameter("weight").detach()
            for name, layer in self.adapted_layers().items()
            if "default" in layer.lora_magnitude_vector
        }
        return {name: replace(f, magnitude=magnitudes.get(name)) for name, f in super().factors().items()}

    def _config(self) -> LoraConfig:
        options: dict[str, Any] = {"r": self.rank, "lora_alpha": self.alpha, "lora_dropout": self.dropout}
        return LoraConfig(**options, **self.peft)
