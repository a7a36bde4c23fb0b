"""Runs that start from another task's run: MRPC, RTE and STS-B from MNLI (LoRA's convention, ``task.init_from``)."""

import json
import re
from typing import Any

from omegaconf import DictConfig, OmegaConf

from delta_lora.errors import UserError
from delta_lora.methods.lookup import without
from delta_lora.places import place
from delta_lora.suite.records.records import run_folder

START = "start.safetensors"


def start_key(config: DictConfig) -> str | None:
    """The key of the finished run that ``task.init_from`` names; None where it names nothing or there is none.

    ``init_from`` is a key, or a GLUE task's short name: then the run of the same model, method, scale and seed counts.

    Raises:
        UserError: several runs fit the name.
    """
    wanted = config.task.get("init_from")
    if wanted is None:
        return None
    results_dir = place("results_dir", config.results_dir)
    if is_key(wanted):
        return str(wanted) if (run_folder(results_dir, wanted) / START).is_file() else None
    ours = identity(OmegaConf.to_container(config, resolve=True))
    found = []
    for path in sorted((results_dir / "runs").glob(f"*/{START}")):
        try:
            theirs: Any = json.loads((path.parent / "run.json").read_text(encoding="utf-8"))["config"]
            fits = theirs["task"]["name"] == f"glue/{wanted}" and identity(theirs) == ours
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue  # unfinished, or no record: read_run says so where it matters
        if fits:
            found.append(path.parent.name)
    if len(found) > 1:
        raise UserError(
            f"task.init_from={wanted}: {len(found)} finished runs fit ({', '.join(found)}); give one as "
            "task.init_from=<key>"
        )
    return found[0] if found else None


def check_start(config: DictConfig) -> None:
    """The run that ``task.init_from`` names is there.

    Raises:
        UserError: it is not; with the command that makes it.
    """
    wanted = config.task.get("init_from")
    if wanted is None or start_key(config) is not None:
        return
    if is_key(wanted):
        folder = run_folder(place("results_dir", config.results_dir), wanted)
        raise UserError(f"task.init_from={wanted}: {folder} has no {START}; runs with task.save_start=true leave one")
    command = (
        f"python scripts/train.py task=glue/{wanted} model={config.model.name} method={config.method.name} "
        f"scale={config.scale.name} seed={config.seed}"
    )
    raise UserError(
        f"task={config.task.name} starts from the {wanted} run of the same method, and there is none in "
        f"{config.results_dir}/runs: make it with `{command}`, or give task.init_from=null to start from the "
        "pretrained model"
    )


def is_key(value: Any) -> bool:
    """Whether it is a run's key rather than a task's name."""
    return re.fullmatch("[0-9a-f]{16}", str(value)) is not None


def identity(config: Any) -> list[Any]:
    """What two runs must share for one to start from the other."""
    model = {name: config["model"][name] for name in ("name", "path", "revision", "target_modules")}
    method = without(config["method"], "by_task")  # MNLI's run has its own
    return [config["scale"]["name"], config["seed"], config["task"]["source"], model, method]
