"""What every method implements, and what the methods built on PEFT share."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback

from delta_lora.errors import UserError
from delta_lora.methods import checks

Kind = Literal["causal", "seq2seq", "classification"]

TASK_TYPES: dict[Kind, TaskType] = {
    "causal": TaskType.CAUSAL_LM,
    "seq2seq": TaskType.SEQ_2_SEQ_LM,
    "classification": TaskType.SEQ_CLS,
}


# W − W_0 of one weight: as it is (d, c), or as low-rank factors b (d, R) and a (R, c) whose product it is.
Update = Tensor | tuple[Tensor, Tensor]


@dataclass(frozen=True)
class ModelSpec:
    """What a method must know of the model: the ``model`` configuration group.

    Each entry of ``target_modules``, ``embedding_modules`` and ``head_modules`` is the last part of a
    module's name (``q_proj`` stands for every ``….q_proj``). GPT-2 is meant with its fused projection already
    split (:func:`delta_lora.models.gpt2.split_attention`).
    """

    name: str
    kind: Kind
    target_modules: tuple[str, ...]
    embedding_modules: tuple[str, ...] = ()
    head_modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerSizes:
    """Smallest and largest dimension of the adapted layers: a rank above the smallest makes no sense."""

    smallest: int
    largest: int


@dataclass(frozen=True)
class Schedule:
    """Length of the run in optimizer steps."""

    total_steps: int
    warmup_steps: int


@dataclass(frozen=True)
class Counts:
    """Parameters by how they learn; the three never overlap.

    trainable: have a gradient and an optimizer state, without the head.
    extra_updatable: change without a gradient (Delta-LoRA's W).
    head: the classification head's trainable parameters, which every method trains.
    """

    trainable: int
    extra_updatable: int
    head: int


@dataclass(kw_only=True, eq=False)
class Method(ABC):
    """A way to fine-tune: ``validate``, ``prepare``, train with ``callbacks()``, ``export``, ``merge``.

    ``learning_rate`` is AdamW's peak rate; ``label`` is the method's row label in the paper's tables.
    """

    name: str
    learning_rate: float
    label: str = ""
    _model: nn.Module | None = field(default=None, init=False, repr=False)
    _spec: ModelSpec | None = field(default=None, init=False, repr=False)

    def validate(self, sizes: LayerSizes, total_steps: int) -> None:
        """Check every argument before anything is loaded.

        Raises:
            UserError: a value is of the wrong type, not finite, or out of its range.
        """
        checks.number("learning_rate", self.learning_rate, 0, above=True)

    @abstractmethod
    def prepare(self, model: PreTrainedModel, spec: ModelSpec, schedule: Schedule) -> nn.Module:
        """Return the model to train: frozen where the method says so, with its adapters attached."""

    def callbacks(self) -> list[TrainerCallback]:
        """Callbacks for ``transformers.Trainer``; call it after ``prepare``."""
        return []

    def counts(self) -> Counts:
        """Exact parameter counts of the prepared model."""
        head = trainable = 0
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                if set(name.split(".")) & set(self.spec.head_modules):
                    head += parameter.numel()
                else:
                    trainable += parameter.numel()
        return Counts(trainable=trainable, extra_updatable=0, head=head)

    @abstractmethod
    def updates(self, reference: PreTrainedModel) -> Iterator[tuple[str, Update]]:
        """What was learned for each target weight, W − W_0, by the module's name in the plain model.

        Args:
            reference: the model as it was loaded, where a method needs W_0 to tell.
        """

    @abstractmethod
    def merge(self) -> PreTrainedModel:
        """Return the plain model with everything learned folded in; it uses the prepared one up."""

    @abstractmethod
    def export(self, directory: Path) -> None:
        """Write the adapter in PEFT's format into ``directory`` (fine-tuning writes nothing)."""

    def start_tensors(self) -> dict[str, Tensor]:
        """The parameters that another task's run of this method can start from: all that are trained but the head's."""
        head = set(self.spec.head_modules)
        return {
            name: parameter.detach()
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad and not set(name.split(".")) & head
        }

    def save_start(self, path: Path) -> None:
        """Write what was learned, without the head, as one safetensors file."""
        self._write_start(path, self.start_tensors())

    def load_start(self, path: Path) -> None:
        """Give the prepared model what another task's run has learned (LoRA's convention: RTE starts from MNLI).

        Raises:
            UserError: the file is of another model or of a method with other settings.
        """
        self._take_start(read_tensors(path), path)

    def _write_start(self, path: Path, tensors: dict[str, Tensor]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, path)

    def _take_start(self, tensors: dict[str, Tensor], path: Path) -> None:
        own = self.start_tensors()
        different = [name for name in own if name not in tensors or own[name].shape != tensors[name].shape]
        if different:
            raise UserError(
                f"{path} does not fit method={self.name} here ({different[0]} differs); start from a run with the same "
                "model and the same method settings"
            )
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(tensors[name])

    @property
    def model(self) -> nn.Module:
        """The prepared model.

        Raises:
            RuntimeError: before ``prepare`` or after ``merge``.
        """
        if self._model is None:
            raise RuntimeError(f"{self.name}: no prepared model; call prepare() first, and merge() last")
        return self._model

    @property
    def spec(self) -> ModelSpec:
        """The specification given to ``prepare``."""
        if self._spec is None:
            raise RuntimeError(f"{self.name}: no prepared model; call prepare() first")
        return self._spec


@dataclass(kw_only=True, eq=False)
class PeftMethod(Method):
    """A method whose adapter is a PEFT one."""

    def _attach(self, model: PreTrainedModel, spec: ModelSpec, config: LoraConfig) -> PeftModel:
        """Freeze ``model`` and put ``config``'s adapter on the target modules; the head stays trainable."""
        named_modules(model, spec.target_modules)
        config.task_type = TASK_TYPES[spec.kind]
        config.target_modules = list(spec.target_modules)
        config.modules_to_save = list(spec.head_modules) or None
        self._spec = spec
        self._model = get_peft_model(model, config)
        return self.peft_model

    @property
    def peft_model(self) -> PeftModel:
        """The prepared model, as PEFT's wrapper."""
        assert isinstance(self.model, PeftModel)
        return self.model

    def adapted_layers(self) -> dict[str, LoraLayer]:
        """PEFT's adapted layers by their name in the plain model (``transformer.h.0.attn.c_attn.q_proj``)."""
        named = self.peft_model.get_base_model().named_modules()
        return {name: layer for name, layer in named if isinstance(layer, LoraLayer)}

    def merge(self) -> PreTrainedModel:
        """Return the plain model with everything learned folded in; it uses the prepared one up."""
        merged = self.peft_model.merge_and_unload()
        self._model = None
        return merged


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        UserError: it is missing, damaged, or no such file: nothing else is read as one.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged or no safetensors file ({error}); make it again") from error


def named_modules(model: nn.Module, names: tuple[str, ...]) -> dict[str, nn.Module]:
    """All modules of ``model`` whose name ends in one of ``names``, by full name.

    Raises:
        UserError: one of ``names`` is in no module's name.
    """
    found = {name: module for name, module in model.named_modules() if name.rsplit(".", 1)[-1] in names}
    missing = set(names) - {name.rsplit(".", 1)[-1] for name in found}
    if missing or not names:
        last_parts = sorted({name.rsplit(".", 1)[-1] for name, _ in model.named_modules()} - {""})
        raise UserError(
            f"the model has no module named {', '.join(sorted(missing)) or '(none given)'}; "
            f"it has {', '.join(part for part in last_parts if not part.isdigit())}; "
            "correct the model configuration"
        )
    return found
