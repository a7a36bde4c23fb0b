"""The three fine-tuning baselines: dense weights with gradients (§5.1 of the paper)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from delta_lora.errors import UserError
from delta_lora.methods.base import Method, ModelSpec, Schedule, Update, named_modules

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

Scope = Literal["all", "all-but-embeddings", "query-value"]


@dataclass(kw_only=True, eq=False)
class FineTune(Method):
    """Train dense weights.

    ``scope`` is ``all`` (full), ``all-but-embeddings`` (ft-frozen-emb: the modules of
    ``spec.embedding_modules`` and whatever is tied to them stay frozen) or ``query-value`` (ft-qv: the weight
    matrices, without biases, of ``spec.target_modules``). A classification head is trained in every scope.
    """

    scope: Scope

    def validate(self, largest_rank: int, total_steps: int) -> None:
        """Check the arguments.

        Raises:
            UserError: an unknown scope or a bad learning rate.
        """
        super().validate(largest_rank, total_steps)
        if self.scope not in get_args(Scope):
            raise UserError(f"method.scope must be one of {', '.join(get_args(Scope))}, got {self.scope!r}")

    def prepare(self, model: PreTrainedModel, spec: ModelSpec, schedule: Schedule) -> nn.Module:
        """Set ``requires_grad`` of every parameter and return ``model`` itself."""
        self._model, self._spec = model, spec
        model.requires_grad_(self.scope != "query-value")
        if self.scope == "all-but-embeddings":
            for module in named_modules(model, spec.embedding_modules).values():
                module.requires_grad_(False)  # a tied output layer is the same parameter
        elif self.scope == "query-value":
            for module in named_modules(model, spec.target_modules).values():
                module.get_parameter("weight").requires_grad_(True)
            if spec.head_modules:
                for module in named_modules(model, spec.head_modules).values():
                    module.requires_grad_(True)
        return model

    def updates(self, reference: PreTrainedModel) -> Iterator[tuple[str, Update]]:
        """The dense W − W_0 of each target weight."""
        before = named_modules(reference, self.spec.target_modules)
        for name, module in named_modules(self.model, self.spec.target_modules).items():
            weight = module.get_parameter("weight").detach()
            yield name, weight - before[name].get_parameter("weight").detach().to(weight.device)

    def merge(self) -> PreTrainedModel:
        """Return the model itself, GPT-2 fused again; it uses the prepared one up."""
        from delta_lora.models.gpt2 import fuse_attention  # imported late: it loads torch

        merged = fuse_attention(cast("PreTrainedModel", self.model))
        self._model = None
        return merged

    def export(self, directory: Path) -> None:
        """Write nothing: dense weights are no adapter."""
