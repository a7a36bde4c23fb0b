"""Delta-LoRA (arXiv 2309.02411) as a method of the suite; the library does the work."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback

from delta_lora import DeltaLora, DeltaLoraCallback
from delta_lora.anchor import shift
from delta_lora.errors import UserError
from delta_lora.export import write_adapter
from delta_lora.layers import adapted_layers
from delta_lora.methods import checks
from delta_lora.methods.adapter_file import Factors
from delta_lora.methods.base import Counts, LayerSizes, ModelSpec, Schedule, Update
from delta_lora.methods.lora import LowRank


@dataclass(kw_only=True, eq=False)
class DeltaLoraMethod(LowRank):
    """LoRA whose frozen weights move along: W ← W + λ (α/r) (B⁺A⁺ − BA) after each step t > K (t from 0).

    ``update_ratio`` λ, ``start_steps`` K. ``literal`` runs Algorithm 1 as printed, which dropout in the
    branch needs; otherwise the sum is folded, exact and as cheap as LoRA (:class:`delta_lora.DeltaLora`).
    """

    update_ratio: float
    start_steps: int
    dropout: float = 0.0
    literal: bool = False

    def validate(self, sizes: LayerSizes, total_steps: int) -> None:
        """Check the arguments.

        Raises:
            UserError: LoRA's reasons, λ or K negative, K so late that W would never move in ``total_steps``,
                or dropout without ``literal``.
        """
        super().validate(sizes, total_steps)
        checks.number("update_ratio", self.update_ratio, 0)
        checks.integer("start_steps", self.start_steps, 0)
        checks.boolean("literal", self.literal)
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
        self._moved: dict[str, Factors] = {}
        self._callback = DeltaLoraCallback(self.update_ratio, self.start_steps, literal=self.literal)
        return super().prepare(model, spec, schedule)

    def callbacks(self) -> list[TrainerCallback]:
        """The library's callback."""
        return [self._callback]

    def counts(self) -> Counts:
        """As LoRA's, and the adapted W as extra updatable parameters (none at λ = 0)."""
        weights = [layer.get_base_layer().get_parameter("weight") for layer in self.adapted_layers().values()]
        moving = sum(weight.numel() for weight in weights) if self.update_ratio > 0 else 0
        return replace(super().counts(), extra_updatable=moving)

    def merge(self) -> PreTrainedModel:
        """Return the plain model with everything learned folded in; it uses the prepared one up."""
        merged = self.delta.merge()
        self._model = None
        return merged

    def export(self, directory: Path) -> None:
        """Write the whole update as an adapter of rank 2r for stock PEFT over the original checkpoint.

        Of rank 4r, where the run started from another task's: what moved W there comes on top.
        """
        write_adapter(self.peft_model, "default", self._deltas(), directory)

    def updates(self, reference: PreTrainedModel) -> Iterator[tuple[str, Update]]:
        """The factors of each layer's whole update, W's own movement included."""
        for name, b, a in self._deltas():
            yield name, (b, a)

    def _deltas(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        for name, b, a in self.delta.effective_delta():
            if (moved := self._moved.get(name)) is not None:
                b, a = torch.cat([b, moved.b.to(b)], dim=1), torch.cat([a, moved.a.to(a)])
            yield name, b, a

    def save_start(self, path: Path) -> None:
        """Write A and B, and how far W has moved: b a, as ``NAME.moved_a`` and ``NAME.moved_b``."""
        tensors = self.start_tensors()
        rank, scale = self.rank, self.alpha / self.rank
        for name, b, a in self._deltas():
            b = b.clone()
            layer = self.adapted_layers()[name]
            b[:, :rank] -= scale * layer.lora_B["default"].get_parameter("weight").detach()  # that part is not in W
            tensors[f"{name}.moved_a"], tensors[f"{name}.moved_b"] = a, b
        self._write_start(path, tensors)

    def _take_start(self, tensors: dict[str, Tensor], path: Path) -> None:
        super()._take_start(tensors, path)
        for layer in adapted_layers(self.peft_model, "default"):
            a, b = tensors[f"{layer.name}.moved_a"], tensors[f"{layer.name}.moved_b"]
            shift(layer, a, b, 1.0)
            self._moved[layer.name] = Factors(a, b, 1.0)

    @property
    def delta(self) -> DeltaLora:
        """The library's object at work; before training, one that has not moved anything yet."""
        if self._callback.delta is None:
            self._callback.delta = DeltaLora(self.peft_model, self.update_ratio, self.start_steps, literal=self.literal)
        return self._callback.delta
