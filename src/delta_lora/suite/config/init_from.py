"""Runs that start from another task's run: MRPC, RTE and STS-B from MNLI (LoRA's convention, ``task.init_from``)."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from delta_lora.errors import UserError
from delta_lora.methods.lookup import settings_with, without
from delta_lora.places import place
from delta_lora.settings import checked, key_part
from delta_lora.suite.config.compose import MISAPPLIED, MISTAKES, choice_named, composed_anywhere
from delta_lora.suite.config.settings import task_class, walk
from delta_lora.suite.records.records import run_folder

START = "start.safetensors"
SHOWN = 4  # settings that an error names


def start_config(config: DictConfig) -> DictConfig | None:
    """The cell of the task that ``task.init_from`` names, as the command line composes it; None where it cannot be.

    Its scale, model, method, seed and folders are those of ``config``, all else is that task's own, also of the method
    what each task decides (its learning rate).
    """
    ours: Any = OmegaConf.to_container(config, resolve=True)
    task = ours["task"]
    found = own_cell(f"glue/{task['init_from']}", ours["method"]["name"], ours["scale"]["name"], task["source"])
    if found is None:
        return None
    own = {name: found["method"][name] for name in settings_with(ours["method"], "by_task") if name in found["method"]}
    same = {name: ours[name] for name in ("data_dir", "results_dir", "cache_dir", "seed", "model")}
    return DictConfig(found | same | {"method": ours["method"] | own})


@cache
def own_cell(task: str, method: str, scale: str, source: str) -> dict[Any, Any] | None:
    """A cell with its defaults, resolved; None where there is none of these names. Hydra takes 0.15 s for it."""
    try:
        chosen = [f"task={task}", f"method={choice_named('method', method)}", f"scale={scale}", f"task.source={source}"]
        found: Any = OmegaConf.to_container(composed_anywhere(chosen))
    except (*MISTAKES, *MISAPPLIED):
        return None
    return dict(found)


def check_start(config: DictConfig, found: str | None) -> None:
    """The run that ``task.init_from`` names is there.

    Args:
        config: resolved.
        found: its key, or None (`delta_lora.suite.config.key.start_key`).

    Raises:
        UserError: it is not; with the command that makes it, and in what the runs differ that could be meant.
    """
    wanted = config.task.get("init_from")
    if wanted is None or found is not None:
        return
    if is_key(wanted):
        folder = run_folder(place("results_dir", config.results_dir), wanted)
        raise UserError(f"task.init_from={wanted}: {folder} has no {START}; runs with task.save_start=true leave one")
    command = (
        f"python scripts/train.py task=glue/{wanted} model={config.model.name} "
        f"method={choice_named('method', config.method.name)} scale={config.scale.name} seed={config.seed}"
    )
    others = "; ".join(f"{key} differs in {', '.join(names)}" for key, names in other_starts(config))
    raise UserError(
        f"task={config.task.name} starts from the {wanted} run of the same method, and there is none in "
        f"{config.results_dir}/runs{f' with its own settings ({others})' if others else ''}: make it with `{command}`, "
        f"or give {'task.init_from=KEY to start from another, or ' if others else ''}task.init_from=null to start from "
        "the pretrained model"
    )


def other_starts(config: DictConfig) -> Iterator[tuple[str, list[str]]]:
    """The keys of the finished runs of the named task with this scale, seed, model and method; in what each differs."""
    ours: Any = OmegaConf.to_container(config, resolve=True)
    own = start_config(config)
    for path in sorted((place("results_dir", config.results_dir) / "runs").glob(f"*/{START}")):
        try:
            theirs: Any = json.loads((path.parent / "run.json").read_text(encoding="utf-8"))["config"]
            fits = theirs["task"]["name"] == f"glue/{ours['task']['init_from']}" and identity(theirs) == identity(ours)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue  # unfinished, or no record: read_run says so where it matters
        if fits:
            yield path.parent.name, differing(theirs, own)


def differing(theirs: Mapping[str, Any], own: Mapping[str, Any] | DictConfig | None) -> list[str]:
    """The settings in a key by which a run differs from a task's own cell; where none does, what else is in a key."""
    try:
        one, other = in_key(theirs), in_key(own or {})
    except (UserError, KeyError):
        return ["settings of another version"]
    names = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    more = ["…"] if len(names) > SHOWN else []
    return [*names[:SHOWN], *more] or ["its data, the model's files or the version of the code"]


def in_key(config: Mapping[Any, Any] | DictConfig) -> dict[str, Any]:
    """The settings of task and method that are in a key, by dotted name."""
    task = checked(task_class(config["task"]).Settings, config["task"], "task")
    parts = {"task": key_part(task), "method": without(config["method"], "outside_key")}
    return {name: value for name, value in walk(parts) if not isinstance(value, Mapping)}


def is_key(value: Any) -> bool:
    """Whether it is a run's key rather than a task's name."""
    return re.fullmatch("[0-9a-f]{16}", str(value)) is not None


def identity(config: Any) -> list[Any]:
    """What the runs have in common of which one could be meant as the other's start."""
    model = {name: config["model"][name] for name in ("name", "path", "revision", "target_modules")}
    method = without(config["method"], "by_task")  # MNLI's run has its own
    return [config["scale"]["name"], config["seed"], config["task"]["source"], model, method]
