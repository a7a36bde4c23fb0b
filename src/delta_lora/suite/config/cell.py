"""From a composed configuration to a checked cell: mistakes are found here, before anything is fetched or written."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from omegaconf import DictConfig, OmegaConf

from delta_lora.errors import UserError
from delta_lora.methods.base import Method, ModelSpec, Schedule
from delta_lora.methods.lookup import method_class
from delta_lora.methods.lora import LowRank
from delta_lora.models.settings import ModelSettings, dropout_fields, made_here
from delta_lora.places import place
from delta_lora.suite.config.compose import resolved
from delta_lora.suite.config.init_from import check_start
from delta_lora.suite.config.key import run_key, start_key
from delta_lora.suite.config.schema import RunSettings
from delta_lora.suite.config.settings import check_device, check_settings, make_task
from delta_lora.tasks.base import Task
from delta_lora.tasks.settings import DecodeSettings, GenerationSettings, TrainSettings


@dataclass(frozen=True)
class Cell:
    """One checked cell of a table: a configuration and what was built from it. Nothing is loaded yet.

    ``config`` is the resolved configuration, for the record; ``settings`` are the same, typed (those of the task:
    ``task.settings``).
    """

    config: DictConfig
    settings: RunSettings
    key: str
    task: Task
    method: Method
    spec: ModelSpec
    schedule: Schedule
    results_dir: Path
    cache_dir: Path

    @property
    def name(self) -> str:
        """For people: ``e2e / gpt2-tiny / delta-lora, seed 1``."""
        settings = self.settings
        return f"{self.task.settings.name} / {settings.model.name} / {settings.method.name}, seed {settings.seed}"

    @property
    def model(self) -> ModelSettings:
        """The model's settings."""
        return self.settings.model

    @property
    def train(self) -> TrainSettings:
        """How the task is trained."""
        return self.task.settings.train

    @property
    def measures_loss(self) -> bool:
        """Whether the run generates no text, and measures the loss on the references."""
        return isinstance(self.task.settings, GenerationSettings) and self.task.settings.loss_only

    @property
    def decode(self) -> DecodeSettings | None:
        """How texts are generated; None where none are."""
        return self.task.settings.decode if isinstance(self.task.settings, GenerationSettings) else None


def build_cell(config: DictConfig, *, to_run: bool = True) -> Cell:
    """Check a composed configuration and build the cell's task and method.

    Args:
        config: as Hydra composes it.
        to_run: False for a plan: the GPU, and the run that this one starts from, need not be there yet.

    Raises:
        UserError: the first thing that is wrong with it.
    """
    config = resolved(config)
    settings, _ = check_settings(config)
    task = make_task(config)
    if task.data_dir is not None and not task.generated and not task.data_dir.is_dir():
        raise UserError(
            f"data_dir={config.data_dir} is no folder; give one in the layout of docs/data.md, or unset data_dir and "
            "DELTA_LORA_DATA to download"
        )
    check_processes(task.settings.train)
    check_model(settings.model)
    dropout_fields(settings.model, task.settings.train.dropouts)  # its errors
    method = build_method(config.method)
    check_alignment(method, task.settings.train)
    largest_rank = settings.model.hidden_size
    method.validate(largest_rank, task.settings.train.max_steps or 2**31)  # the rank and the like, before data are read
    task.check_files()
    schedule = make_schedule(task.settings.train, task.train_size())
    method.validate(largest_rank, schedule.total_steps)
    if to_run:
        check_start(config, start_key(config))
        check_device(config)
    return Cell(
        config=config,
        settings=settings,
        key=run_key(config, task),
        task=task,
        method=method,
        spec=model_spec(settings.model),
        schedule=schedule,
        results_dir=place("results_dir", config.results_dir),
        cache_dir=task.cache_dir,
    )


def build_method(group: DictConfig) -> Method:
    """The method that a resolved ``method`` group names, with its arguments.

    Raises:
        UserError: there is no such class, or an argument is unknown or missing.
    """
    arguments: Any = OmegaConf.to_container(group, resolve=True)
    kind = method_class(arguments)
    del arguments["_target_"]
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    for name in arguments:
        if name not in fields:
            raise UserError(f"there is no setting method.{name}; method has {', '.join(sorted(fields))}")
    for name, field in fields.items():
        optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if name not in arguments and not optional:
            raise UserError(f"the setting method.{name} is missing; it cannot be left out")
    return kind(**arguments)


def model_spec(model: ModelSettings) -> ModelSpec:
    """What a method must know of the model."""
    return ModelSpec(
        name=model.name,
        kind=model.kind,
        target_modules=model.target_modules,
        embedding_modules=model.embedding_modules,
        head_modules=model.head_modules,
    )


def check_model(model: ModelSettings) -> None:
    """A model without a path or a package is one that the project makes.

    Raises:
        UserError: it is none of them.
    """
    if made_here(model):
        from delta_lora.tiny.recipes import MODELS

        if model.name not in MODELS:
            raise UserError(
                f"model.path is null, which is for the models the project makes ({', '.join(MODELS)}), "
                f"and model.name={model.name} is none of them; give a hub name or a folder"
            )


def check_alignment(method: Method, train: TrainSettings) -> None:
    """A run that is to log how its product BA moves has one.

    Raises:
        UserError: its method has none.
    """
    if train.alignment_steps is not None and not isinstance(method, LowRank):
        raise UserError(
            f"task.train.alignment_steps={train.alignment_steps} logs how a product BA moves, and method={method.name} "
            "has none; set it to null, or use LoRA, DyLoRA or Delta-LoRA"
        )


def check_processes(train: TrainSettings) -> None:
    """The processes of a run share its batches evenly.

    Raises:
        UserError: they cannot.
    """
    from delta_lora.suite.machine import ranks  # imported late: it loads torch

    if train.batch_size % ((train.micro_batch_size or 1) * ranks.count()):
        given = f"{ranks.count()} processes"
        if train.micro_batch_size is not None:
            given += f" × task.train.micro_batch_size={train.micro_batch_size}"
        raise UserError(
            f"task.train.batch_size={train.batch_size} is the whole run's, and {given} do not divide it; give torchrun "
            "another --nproc-per-node, or set task.train.micro_batch_size"
        )


def is_number(value: Any) -> TypeGuard[float]:
    """A finite int or float (not a bool)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf


def make_schedule(train: TrainSettings, train_size: int) -> Schedule:
    """Optimizer steps of the run: ⌈examples / batch size⌉ × epochs, or ``task.train.max_steps``."""
    total = train.max_steps or math.ceil(train_size / train.batch_size) * train.epochs
    warmup = train.warmup(total)
    if warmup >= total:
        raise UserError(
            f"task.train.warmup_steps={warmup} does not fit the run's {total} steps; give fewer, or train longer"
        )
    return Schedule(total_steps=total, warmup_steps=warmup)
