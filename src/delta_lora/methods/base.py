"""What every method implements.

A run's key needs what a method's class says of its settings. So that whoever renders a table gets it at once, the
modules of the methods load torch, Transformers and PEFT where they are used, or for type checkers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from delta_lora.errors import UserError
from delta_lora.methods import checks

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, TrainerCallback

Kind = Literal["causal", "seq2seq", "classification"]

# W − W_0 of one weight: as it is (d, c), or as low-rank factors b (d, R) and a (R, c) whose product it is.
Update: TypeAlias = "Tensor | tuple[Tensor, Tensor]"


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


def setting(*, by_task: bool = False, outside_key: bool = False, delays: bool = False, **options: Any) -> Any:
    """A field of a method, and what the suite has to know of it.

    Args:
        by_task: each task decides it, so that a run that starts another task's (``task.init_from``) may have its own.
        outside_key: it cannot change a run's numbers.
        delays: it puts off what makes the method's step slower; 0 has that from the first step on.
        options: as for ``dataclasses.field``.
    """
    return field(metadata={"by_task": by_task, "outside_key": outside_key, "delays": delays}, **options)


@dataclass(kw_only=True, eq=False)
class Method(ABC):
    """A way to fine-tune: ``validate``, ``prepare``, train with ``callbacks()``, ``export``, ``merge``.

    A method is one configuration file and one class: nothing else lists them. ``learning_rate`` is AdamW's peak rate;
    ``label`` is the method's row label in the tables.
    """

    name: str
    learning_rate: float = setting(by_task=True)
    label: str = setting(by_task=True, outside_key=True, default="")
    _model: nn.Module | None = field(default=None, init=False, repr=False)
    _spec: ModelSpec | None = field(default=None, init=False, repr=False)

    def validate(self, largest_rank: int, total_steps: int) -> None:
        """Check every argument before anything is loaded.

        Args:
            largest_rank: the smallest dimension of the adapted layers: a rank above it makes no sense.
            total_steps: optimizer steps of the run.

        Raises:
            UserError: a value is of the wrong type, not finite, or out of its range.
        """
        checks.number("learning_rate", self.learning_rate, 0, ends="(]")

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

    def rank_limit(self) -> int | None:
        """The rank that no weight's W − W_0 exceeds; None where only the weight's size limits it."""
        return None

    def exported_size(self) -> int:
        """Numbers in the files that :meth:`export` writes of the prepared model, 0 for none."""
        return 0

    @property
    def rewrites_base(self) -> bool:
        """Whether training rewrites target weights that have no gradient: under bf16 they are then kept in float32."""
        return False

    def at_full_cost(self) -> Self:
        """The method, not prepared, with what makes its step slower from the first step on: for timing a few steps."""
        at_once: dict[str, Any] = {f.name: 0 for f in fields(self) if f.metadata.get("delays")}
        return replace(self, **at_once)

    @abstractmethod
    def updates(self, reference: PreTrainedModel) -> Iterator[tuple[str, Update]]:
        """What was learned for each target weight, W − W_0, by the module's name in the plain model.

        Args:
            reference: the model as it was loaded, where a method needs W_0 to tell.
        """

    @abstractmethod
    def merge(self) -> PreTrainedModel:
        """Return the stock model with everything learned folded in (GPT-2 fused again); it uses the prepared one up."""

    @abstractmethod
    def export(self, directory: Path) -> None:
        """Write an adapter for stock PEFT over the original checkpoint into ``directory`` (fine-tuning: nothing)."""

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
        from safetensors.torch import save_file  # imported late: it loads torch

        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, path)

    def _take_start(self, tensors: dict[str, Tensor], path: Path) -> None:
        import torch

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


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        UserError: it is missing, damaged, or no such file: nothing else is read as one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

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
