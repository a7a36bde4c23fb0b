"""A resolved configuration checked, before anything is imported that takes long to load."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from omegaconf import DictConfig, OmegaConf

from delta_lora.errors import UserError, secrets_in
from delta_lora.places import place
from delta_lora.settings import checked
from delta_lora.suite.config.schema import RunSettings
from delta_lora.tasks.base import Task
from delta_lora.tasks.settings import GenerationSettings, TaskSettings

FAMILIES = {"causal": "gpt2", "seq2seq": "bart", "classification": "roberta"}  # whose model a scale has for a kind


def check_settings(config: DictConfig) -> tuple[RunSettings, TaskSettings]:
    """Every setting of a resolved configuration is a known one, of its type and in its range, and fits the others.

    A method's arguments are for its class to check (:func:`delta_lora.suite.config.cell.build_method`).

    Returns:
        The run's settings and the task's.

    Raises:
        UserError: the first that is not.
    """
    check_texts(config)
    run = checked(RunSettings, config, "")
    task = checked(task_class(run.task).Settings, run.task, "task")
    expected = f"{run.scale.name}/{task.name}"
    if run.scale.needs_preset and run.preset != expected:
        raise UserError(
            f"task={task.name} has no settings for scale={run.scale.name} (configs/preset/{expected}.yaml); "
            "use another scale or task, or write that file"
        )
    if run.model.kind not in task.kinds:
        fitting = [run.scale.models.get(FAMILIES[kind], "…") for kind in task.kinds]
        raise UserError(
            f"model={run.model.name} is a {run.model.kind} model, task={task.name} needs a "
            f"{' or '.join(task.kinds)} one; use model={' or model='.join(fitting)}"
        )
    if isinstance(task, GenerationSettings) and task.decode.search == "microsoft-lora" and run.model.kind != "causal":
        raise UserError(
            f"task.decode.search=microsoft-lora is for decoder-only models, and model={run.model.name} is a "
            f"{run.model.kind} one; use task.decode.search=transformers"
        )
    return run, task


def task_class(group: Mapping[str, Any] | DictConfig) -> type[Task]:
    """The class that a ``task`` group names. A record from elsewhere may name any: only a task is made from it.

    Raises:
        UserError: there is none of that name, or it is no task.
    """
    target = group.get("_target_")
    try:
        module, _, name = str(target).rpartition(".")
        found = getattr(import_module(module), name)
    except (ImportError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"task._target_={target} is no class ({' '.join(str(error).split())})") from error
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise UserError(f"task._target_={target} is no task; give a class in delta_lora/tasks/")
    return found


def make_task(config: DictConfig) -> Task:
    """The task of a resolved configuration.

    Raises:
        UserError: its class or a setting is wrong.
    """
    data_dir = None if config.data_dir is None else place("data_dir", config.data_dir)
    return task_class(config.task)(config.task, data_dir, place("cache_dir", config.cache_dir))


def check_device(config: DictConfig) -> None:
    """A scale that needs a GPU finds one.

    Raises:
        UserError: there is none; it names what runs without.
    """
    if not config.scale.require_gpu:
        return
    from delta_lora.suite.machine.devices import has_gpu  # imports torch

    if not has_gpu():
        raise UserError(
            f"scale={config.scale.name} needs a CUDA GPU and none was found; use scale=tiny (make: SCALE=tiny) on this "
            "machine, or scale.require_gpu=false to run on the CPU all the same"
        )


def check_texts(config: DictConfig) -> None:
    """Every name and text can be written into a record, and may be.

    Raises:
        UserError: a character that does not belong on a line, or a secret.
    """
    for name, value in walk(OmegaConf.to_container(config)):
        texts = [name.rpartition(".")[2], *(value if isinstance(value, list) else [value])]
        for text in texts:
            if not isinstance(text, str):
                continue
            if odd := [character for character in text if not character.isprintable()]:
                raise UserError(f"{name} has the character {odd[0]!a} in it; write it without")
            if secrets_in(text):
                raise UserError(
                    f"{name} holds a password or a token, which would be written into the run's record and sent to "
                    "W&B; keep it in ~/.netrc, in HF_TOKEN or in WANDB_API_KEY"
                )


def walk(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Each setting with its dotted name, a group before what it holds; a list is one setting."""
    if name:
        yield name, value
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from walk(item, f"{name}.{key}" if name else str(key))
