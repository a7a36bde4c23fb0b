"""From a composed configuration to a checked cell: mistakes are found here, before anything is fetched or written."""

import json
import math
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, TypeGuard

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from delta_lora.errors import UserError
from delta_lora.methods.base import Method, ModelSpec, Schedule
from delta_lora.methods.lookup import method_class, without
from delta_lora.suite.config.init_from import check_start, start_key
from delta_lora.suite.config.settings import check_settings
from delta_lora.suite.machine import ranks
from delta_lora.tasks.base import Task

RECIPE = 2  # part of every key: raise it when a change of the code changes a run's numbers

# What cannot change a run's numbers, or reaches them through `method` alone.
OUTSIDE_KEY = {
    "model": ("embedding_modules", "head_modules"),
    "task": (
        "_target_",
        "kinds",
        "per_method",
        "sweeps",
        "metrics",
        "files",
        "train_examples",
        "test_examples",
        "lengths",
        "save_start",
    ),
    "train": ("learning_rate", "finetune_learning_rate", "save_steps", "logging_steps", "micro_batch_size"),
    "decode": ("batch_size",),
}


@dataclass(frozen=True)
class Cell:
    """One checked cell of a table: a configuration and what was built from it. Nothing is loaded yet."""

    config: DictConfig
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
        config = self.config
        return f"{config.task.name} / {config.model.name} / {config.method.name}, seed {config.seed}"


def build_cell(config: DictConfig, *, to_run: bool = True) -> Cell:
    """Check a composed configuration and build the cell's task and method.

    Args:
        config: as Hydra composes it.
        to_run: False for a plan: the GPU, and the run that this one starts from, need not be there yet.

    Raises:
        UserError: the first thing that is wrong with it.
    """
    config = DictConfig(OmegaConf.to_container(config, resolve=True))
    check_settings(config)
    if not isinstance(config.seed, int) or not 0 <= config.seed < 2**32:
        raise UserError(f"seed must be a whole number from 0 to 2^32 - 1, got {config.seed}")
    if config.when_busy not in ("wait", "skip"):
        raise UserError(f"when_busy must be wait or skip, got {config.when_busy}")
    for name in ("init_timeout", "finish_timeout") if config.logger.name == "wandb" else ():
        if not is_number(config.logger[name]) or config.logger[name] <= 0:
            raise UserError(f"logger.{name} must be a number of seconds > 0, got {config.logger[name]}")
    cache_dir = Path(config.cache_dir).expanduser()
    data_dir = None if config.data_dir is None else Path(config.data_dir).expanduser()
    expected = f"{config.scale.name}/{config.task.name}"
    if config.scale.needs_preset and config.preset != expected:
        raise UserError(
            f"task={config.task.name} has no settings for scale={config.scale.name} (configs/preset/{expected}.yaml); "
            "use another scale or task, or write that file"
        )
    if config.model.kind not in config.task.kinds:
        raise UserError(
            f"model={config.model.name} is a {config.model.kind} model, task={config.task.name} needs a "
            f"{' or '.join(config.task.kinds)} one; {suitable_models(config)}"
        )
    check_train(config)
    task = task_class(config.task)(config.task, data_dir, cache_dir)
    if data_dir is not None and not task.generated and not data_dir.is_dir():
        raise UserError(
            f"data_dir={config.data_dir} is no folder; give one in the layout of docs/data.md, or unset data_dir and "
            "DELTA_LORA_DATA to download"
        )
    check_model(config)
    method_class(config.method)
    method: Method = instantiate(config.method)
    largest_rank = config.model.hidden_size
    method.validate(largest_rank, config.task.train.max_steps or 2**31)  # the rank and the like, before data are read
    task.check_files()
    schedule = make_schedule(config, task.train_size())
    method.validate(largest_rank, schedule.total_steps)
    if to_run:
        check_start(config)
        check_device(config)
    spec, results_dir = model_spec(config), Path(config.results_dir)
    return Cell(config, run_key(config, task), task, method, spec, schedule, results_dir, cache_dir)


def model_spec(config: DictConfig) -> ModelSpec:
    """What a method must know of the model, from the ``model`` group."""
    return ModelSpec(
        name=config.model.name,
        kind=config.model.kind,
        target_modules=tuple(config.model.target_modules),
        embedding_modules=tuple(config.model.embedding_modules),
        head_modules=tuple(config.model.head_modules),
    )


def task_class(config: DictConfig) -> type[Task]:
    """The class that a ``task`` group names. A record from elsewhere may name any: only a task is made from it.

    Raises:
        UserError: there is none of that name, or it is no task.
    """
    try:
        module, _, name = str(config._target_).rpartition(".")
        found = getattr(import_module(module), name)
    except (ImportError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"task._target_={config._target_} is no class ({' '.join(str(error).split())})") from error
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise UserError(f"task._target_={config._target_} is no task; give a class in delta_lora/tasks/")
    return found


def suitable_models(config: DictConfig) -> str:
    """A hint which model to give, from the scale's own models."""
    family = {"causal": "gpt2", "seq2seq": "bart", "classification": "roberta"}
    names = [config.scale.models[family[kind]] for kind in config.task.kinds]
    return f"use model={' or model='.join(names)}"


def check_model(config: DictConfig) -> None:
    """A model without a path is one that the project makes."""
    if config.model.path is None:
        from delta_lora.tiny.models import MODELS

        if config.model.name not in MODELS:
            raise UserError(
                f"model.path is null, which is for the models the project makes ({', '.join(MODELS)}), "
                f"and model.name={config.model.name} is none of them; give a hub name or a folder"
            )


def check_train(config: DictConfig) -> None:
    """The numbers of the ``train`` and ``decode`` blocks, each in its range."""
    train = config.task.train
    for name in ("batch_size", "epochs", "save_steps", "logging_steps", "max_length", "max_target_length"):
        if name in train:
            positive(f"task.train.{name}", train[name])
    for name in ("train_examples", "evaluation_batch_size"):
        if name in config.task:
            positive(f"task.{name}", config.task[name])
    positive("model.hidden_size", config.model.hidden_size)
    if train.max_steps is not None:
        positive("task.train.max_steps", train.max_steps)
    if train.micro_batch_size is not None:
        positive("task.train.micro_batch_size", train.micro_batch_size)
        if train.batch_size % train.micro_batch_size:
            raise UserError(
                f"task.train.micro_batch_size must divide task.train.batch_size={train.batch_size}, "
                f"got {train.micro_batch_size}"
            )
    at_once = (train.micro_batch_size or 1) * ranks.count()
    if train.batch_size % at_once:
        given = f"{ranks.count()} processes"
        if train.micro_batch_size is not None:
            given += f" × task.train.micro_batch_size={train.micro_batch_size}"
        raise UserError(
            f"task.train.batch_size={train.batch_size} is the whole run's, and {given} do not divide it; give torchrun "
            "another --nproc-per-node, or set task.train.micro_batch_size"
        )
    for name in ("weight_decay", "max_grad_norm"):
        if not is_number(train[name]) or train[name] < 0:
            raise UserError(f"task.train.{name} must be a number ≥ 0, got {train[name]}")
    if not is_number(train.label_smoothing) or not 0 <= train.label_smoothing < 1:
        raise UserError(f"task.train.label_smoothing must be in [0, 1), got {train.label_smoothing}")
    if train.precision not in ("auto", "bf16", "fp32"):
        raise UserError(f"task.train.precision must be auto, bf16 or fp32, got {train.precision}")
    if (train.warmup_steps is None) == (train.warmup_ratio is None):
        raise UserError("give one of task.train.warmup_steps and task.train.warmup_ratio, and null for the other")
    if train.warmup_ratio is not None and not (is_number(train.warmup_ratio) and 0 <= train.warmup_ratio <= 1):
        raise UserError(f"task.train.warmup_ratio must be in [0, 1], got {train.warmup_ratio}")
    if train.warmup_steps is not None and not (isinstance(train.warmup_steps, int) and train.warmup_steps >= 0):
        raise UserError(f"task.train.warmup_steps must be a whole number ≥ 0, got {train.warmup_steps}")
    for name, value in train.dropouts.items():
        if not is_number(value) or not 0 <= value < 1:
            raise UserError(f"task.train.dropouts.{name} must be in [0, 1), got {value}")
    decode = config.task.get("decode")
    if decode is not None:
        for name in ("beam_size", "max_new_tokens", "batch_size"):
            positive(f"task.decode.{name}", decode[name])
        ngram = decode.no_repeat_ngram_size
        if isinstance(ngram, bool) or not isinstance(ngram, int) or ngram < 0:
            raise UserError(f"task.decode.no_repeat_ngram_size must be a whole number ≥ 0 (0: off), got {ngram}")
        if not is_number(decode.length_penalty):
            raise UserError(f"task.decode.length_penalty must be a number, got {decode.length_penalty}")


def is_number(value: Any) -> TypeGuard[float]:
    """A finite int or float (not a bool)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf


def positive(name: str, value: Any) -> None:
    """A whole number of at least 1 that also fits 32 bits."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
        raise UserError(f"{name} must be a whole number ≥ 1 (and < 2^31), got {value!r:.80}")


def make_schedule(config: DictConfig, train_size: int) -> Schedule:
    """Optimizer steps of the run: ⌈examples / batch size⌉ × epochs, or ``task.train.max_steps``."""
    train = config.task.train
    total = train.max_steps or math.ceil(train_size / train.batch_size) * train.epochs
    warmup = train.warmup_steps if train.warmup_ratio is None else math.ceil(train.warmup_ratio * total)
    if warmup >= total:
        raise UserError(
            f"task.train.warmup_steps={warmup} does not fit the run's {total} steps; give fewer, or train longer"
        )
    return Schedule(total_steps=total, warmup_steps=warmup)


def check_device(config: DictConfig) -> None:
    """A scale that needs a GPU finds one.

    Raises:
        UserError: there is none; it names what runs without.
    """
    from delta_lora.suite.machine.devices import has_gpu

    if config.scale.require_gpu and not has_gpu():
        raise UserError(
            f"scale={config.scale.name} needs a CUDA GPU and none was found; use scale=tiny (make: SCALE=tiny) on this "
            "machine, or scale.require_gpu=false to run on the CPU all the same"
        )


def run_key(config: DictConfig, task: Task) -> str:
    """16 hex digits of a hash over everything that can change the run's numbers.

    Two configurations with the same key give the same numbers, so a cell that stands in several tables is trained
    once. Numbers are compared by value (2 and 2.0 are the same).
    """
    raw: Any = OmegaConf.to_container(config, resolve=True)
    parts: dict[str, Any] = {"recipe": RECIPE, "seed": raw["seed"], "data": task.fingerprint()}
    parts["method"] = without(raw["method"], "outside_key")
    for group in ("model", "task"):
        parts[group] = {name: value for name, value in raw[group].items() if name not in OUTSIDE_KEY[group]}
    if raw["task"].get("init_from") is not None:
        parts["task"]["init_from"] = start_key(config)
    for block in ("train", "decode"):
        if parts["task"].get(block) is not None:
            parts["task"][block] = {
                name: value for name, value in raw["task"][block].items() if name not in OUTSIDE_KEY[block]
            }
    if raw["model"]["path"] is None:
        from delta_lora.tiny.models import MODELS

        parts["weights"] = MODELS[raw["model"]["name"]].key
    return sha256(json.dumps(canonical(parts), sort_keys=True).encode()).hexdigest()[:16]


def canonical(value: Any) -> Any:
    """The value with whole floats as ints, so that 2 and 2.0 hash alike."""
    if isinstance(value, dict):
        return {name: canonical(item) for name, item in value.items()}
    if isinstance(value, list):
        return [canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
