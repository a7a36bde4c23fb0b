"""A run's key: what can change its numbers, hashed."""

import json
from hashlib import sha256
from typing import Any

from omegaconf import DictConfig, OmegaConf

from delta_lora.methods.lookup import without
from delta_lora.models.folder import local_digest
from delta_lora.models.settings import ModelSettings, made_here
from delta_lora.places import place
from delta_lora.settings import checked, key_part
from delta_lora.suite.config.init_from import START, is_key, start_config
from delta_lora.suite.config.settings import make_task
from delta_lora.suite.records.records import run_folder
from delta_lora.tasks.base import PINNED, Task
from delta_lora.tasks.settings import LOSS, GenerationSettings

RECIPE = 3  # part of every key: raise it when a change of the code changes a run's numbers


def run_key(config: DictConfig, task: Task, data: str | None = None) -> str:
    """16 hex digits of a hash over everything that can change the run's numbers.

    Two configurations with the same key give the same numbers, so a cell that stands in several tables is trained
    once. Numbers are compared by value (2 and 2.0 are the same). Which settings are in it, their own classes say
    (``in_key`` of :func:`delta_lora.settings.setting`).

    Args:
        data: what the data are, where that is not what ``task`` has at hand: `PINNED` for what it downloads, or a
            digest of files.
    """
    model = checked(ModelSettings, config.model, "model")
    method: Any = OmegaConf.to_container(config.method, resolve=True)
    parts: dict[str, Any] = {
        "recipe": RECIPE,
        "seed": config.seed,
        "data": task.fingerprint() if data is None else task.remote_fingerprint() if data == PINNED else data,
        "model": key_part(model),
        "task": key_part(task.settings),
        "method": without(method, "outside_key"),
    }
    if config.task.get("init_from") is not None:
        parts["task"]["init_from"] = start_key(config)
    if not task.generates and task.selection_metric() is None:
        parts["selected_by"] = task.settings.metrics[0]
    if isinstance(task.settings, GenerationSettings) and task.settings.loss_only:
        parts["measured"] = LOSS  # other runs can be scored by other metrics later; this one has no texts
        del parts["task"]["decode"]
    if made_here(model):
        from delta_lora.tiny.recipes import MODELS

        parts["weights"] = MODELS[model.name].key
    elif (weights := local_digest(model)) is not None:
        parts["weights"] = weights
    return sha256(json.dumps(canonical(parts), sort_keys=True).encode()).hexdigest()[:16]


def start_key(config: DictConfig) -> str | None:
    """The key of the finished run that ``task.init_from`` names; None where it names nothing or there is none.

    ``init_from`` is a key, or a GLUE task's short name: then that task's own cell counts (`start_config`), no run of
    other settings, on other data or of another recipe.
    """
    wanted = config.task.get("init_from")
    if wanted is None:
        return None
    results_dir = place("results_dir", config.results_dir)
    if is_key(wanted):
        return str(wanted) if (run_folder(results_dir, wanted) / START).is_file() else None
    if not any((results_dir / "runs").glob(f"*/{START}")) or (start := start_config(config)) is None:
        return None
    key = run_key(start, make_task(start))
    folder = run_folder(results_dir, key)
    return key if all((folder / name).is_file() for name in (START, "run.json")) else None


def canonical(value: Any) -> Any:
    """The value with whole floats as ints, so that 2 and 2.0 hash alike."""
    if isinstance(value, dict):
        return {name: canonical(item) for name, item in value.items()}
    if isinstance(value, list):
        return [canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
