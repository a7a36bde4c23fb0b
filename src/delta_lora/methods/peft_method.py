"""What the methods built on PEFT's LoRA layers share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from delta_lora.errors import UserError
from delta_lora.methods.base import Kind, Method, ModelSpec, Update, named_modules
from delta_lora.updates import LowRankUpdate

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from peft.tuners.lora import LoraLayer
    from torch import Tensor
    from transformers import PreTrainedModel

    from delta_lora.layers import AdaptedLayer

ADAPTER = "default"  # PEFT's name for a model's first one
TASK_TYPES: dict[Kind, str] = {"causal": "CAUSAL_LM", "seq2seq": "SEQ_2_SEQ_LM", "classification": "SEQ_CLS"}  # PEFT's


@dataclass(kw_only=True, eq=False)
class PeftMethod(Method):
    """A method whose adapter is PEFT's: a subclass attaches it in ``prepare`` and says in ``branches`` what it adds."""

    _offsets: dict[str, LowRankUpdate] = field(default_factory=dict, init=False, repr=False)

    @abstractmethod
    def branches(self) -> dict[str, LowRankUpdate]:
        """What the adapter adds to each adapted weight now, by the layer's name in the plain model."""

    @property
    def offsets(self) -> dict[str, LowRankUpdate]:
        """By layer, how far W was from the checkpoint's W_0 before training: PiSSA's part, or another task's run."""
        return self._offsets

    def attach(self, model: PreTrainedModel, spec: ModelSpec, config: LoraConfig) -> PeftModel:
        """Freeze ``model`` and put ``config``'s adapter on the target modules; the head stays trainable.

        Raises:
            UserError: no such modules, or an adapter whose update could not be exported.
        """
        from peft import TaskType, get_peft_model  # imported late: it takes seconds

        from delta_lora import inits
        from delta_lora.peft_config import make_writable

        named_modules(model, spec.target_modules)
        check_init(config)
        config.task_type = TaskType(TASK_TYPES[spec.kind])
        config.target_modules = list(spec.target_modules)
        config.modules_to_save = list(spec.head_modules) or None
        make_writable(config)
        self._spec = spec
        self._model = get_peft_model(model, config)
        for name, layer in self.adapted_layers().items():
            check_variant(name, layer)
        offsets = inits.start_offsets(self.peft_model, ADAPTER)
        if offsets is None:
            raise UserError(
                f"init_lora_weights={config.init_lora_weights!r} has changed what this model computes, so that W_0 is "
                "lost; use init_lora_weights=True"
            )
        self._offsets = offsets
        return self.peft_model

    @property
    def peft_model(self) -> PeftModel:
        """The prepared model, as PEFT's wrapper."""
        from peft import PeftModel

        assert isinstance(self.model, PeftModel)
        return self.model

    def adapted_layers(self) -> dict[str, LoraLayer]:
        """PEFT's adapted layers by their name in the plain model (``transformer.h.0.attn.c_attn.q_proj``)."""
        from peft.tuners.lora import LoraLayer

        named = self.peft_model.get_base_model().named_modules()
        return {name: layer for name, layer in named if isinstance(layer, LoraLayer)}

    def learned(self) -> dict[str, LowRankUpdate]:
        """W − W_0 of each adapted weight."""
        return {name: update.plus(self.offsets.get(name)) for name, update in self.branches().items()}

    def updates(self, reference: PreTrainedModel) -> Iterator[tuple[str, Update]]:
        """The factors of each layer's update; dense where DoRA rescales the rows."""
        for name, update in self.learned().items():
            yield name, update.of(reference.get_submodule(name).get_parameter("weight"))

    def export(self, directory: Path) -> None:
        """Write what was learned as a LoRA adapter for stock PEFT over the original checkpoint."""
        from delta_lora import export

        export.write_adapter(self.peft_model, ADAPTER, self.learned(), directory)

    def exported_size(self) -> int:
        """The trained parameters, and the factors of what was in W before."""
        counts = self.counts()
        before = sum(update.a.numel() + update.b.numel() for update in self.offsets.values())
        return counts.trainable + counts.head + before

    def merge(self) -> PreTrainedModel:
        """Return the stock model with everything learned folded in (GPT-2 fused again); it uses the prepared one up."""
        from delta_lora import export

        merged = export.merge(self.peft_model, ADAPTER)
        self._model = None
        return merged

    def base_updates(self) -> dict[str, LowRankUpdate]:
        """How far W itself is from W_0 now, without the adapter's branch, where it is."""
        return self.offsets

    def save_start(self, path: Path) -> None:
        """Write what was learned, without the head: the adapter, and how far W is from W_0 (``NAME.moved_a, _b``)."""
        tensors = self.start_tensors()
        for name, update in self.base_updates().items():
            tensors |= {f"{name}.moved_a": update.a, f"{name}.moved_b": update.b}
        self._write_start(path, tensors)

    def _take_start(self, tensors: dict[str, Tensor], path: Path) -> None:
        from delta_lora.layers import AdaptedLayer

        super()._take_start(tensors, path)
        for name, module in self.adapted_layers().items():
            here, there = self.offsets.pop(name, None), None
            if f"{name}.moved_a" in tensors:
                there = LowRankUpdate(tensors[f"{name}.moved_b"], tensors[f"{name}.moved_a"])
                self.offsets[name] = there
            move_base(AdaptedLayer(name, module, ADAPTER, module.scaling[ADAPTER], ()), here, there)


def move_base(layer: AdaptedLayer, here: LowRankUpdate | None, there: LowRankUpdate | None) -> None:
    """Move W, which is W_0 + ``here``, to W_0 + ``there``; where both are the same, not by a bit."""
    from delta_lora.anchor import shift

    if here is not None and there is not None and _same(here, there):
        return
    if here is not None:
        here = replace(here, b=-here.b)
    change = here if there is None else there.plus(here)
    if change is not None:
        shift(layer, change.a, change.b, 1.0)


def _same(first: LowRankUpdate, second: LowRankUpdate) -> bool:
    import torch

    pairs = ((first.a, second.a), (first.b, second.b))
    return all(one.shape == other.shape and torch.equal(one, other.to(one)) for one, other in pairs)


def check_init(config: LoraConfig) -> None:
    """The adapter's start leaves W_0 known.

    Raises:
        UserError: a start that needs data or quantizes, which no run gives it.
    """
    from delta_lora import inits

    if not inits.is_known(config.init_lora_weights):
        raise UserError(
            f"init_lora_weights must be one of {inits.ALLOWED}, got {config.init_lora_weights!r}: others need data or "
            "rewrite the base weights in a way that cannot be undone in an export"
        )
    if config.init_lora_weights == "orthogonal" and (odd := [r for r in ranks_of(config) if r % 2]):
        raise UserError(f"init_lora_weights='orthogonal' needs even ranks, got {odd[0]}")


def ranks_of(config: LoraConfig) -> list[int]:
    """Every rank that a layer may have."""
    return [config.r, *(config.rank_pattern or {}).values()]


def check_variant(name: str, layer: LoraLayer) -> None:
    """The layer's update is s·BA, or DoRA's.

    Raises:
        UserError: it is not, so that no LoRA adapter could hold it.
    """
    variant = layer.lora_variant.get(ADAPTER)
    if layer.lora_bias.get(ADAPTER) or not (variant is None or type(variant).__name__ == "DoraLinearVariant"):
        what = "lora_bias=True" if variant is None else type(variant).__name__
        raise UserError(f"{name} has {what}, which the exported LoRA adapter cannot hold; leave that option out")
