"""What a setting may be: ``configs/`` itself says which settings there are, and of what kind each one is."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from delta_lora.errors import UserError, secrets_in
from delta_lora.suite.cli import CONFIGS, choices

# A method's own arguments are checked by its class, a table's and a figure's section by their specifications.
ELSEWHERE = ("method", "table", "figure")
# Groups whose keys are names of something else.
OPEN = ("task.per_method", "task.train.dropouts", "task.files.sha256", "task.sweeps")
# Settings whose values in configs/ do not tell their kind.
KINDS = {
    **{name: {"a group of settings"} for name in ("model", "task", "task.per_method", "method", "scale", "logger")},
    **{name: {"text"} for name in ("results_dir", "cache_dir", "method.name", "method.label", "method._target_")},
    **{name: {"text", "null"} for name in ("data_dir", "task.init_from", "model.path", "model.revision")},
}


def check_settings(config: DictConfig) -> None:
    """Every setting of a resolved configuration is a known one, of the kind that it has in ``configs/``, and no secret.

    Raises:
        UserError: the first that is not.
    """
    given = dict(walk(OmegaConf.to_container(config)))
    known = known_settings()
    for name, value in given.items():
        check_text(name, name.rpartition(".")[2])
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                check_text(name, text)
        if any(name.startswith(f"{group}.") for group in OPEN):
            continue
        if name not in known:
            check_unknown(name, given, known)
        elif known[name] and kind_of(value) not in known[name]:
            raise UserError(f"{name} must be {' or '.join(sorted(known[name]))}, got {value!r:.80}")
    absent = [name for name in required_settings(given.get("task.name")) if name not in given]
    if absent:
        raise UserError(f"the setting {absent[0]} is missing; it cannot be left out")


def check_unknown(name: str, given: Mapping[str, Any], known: Mapping[str, set[str]]) -> None:
    """A setting that is not in ``configs/``: an option that nothing would read, unless it is one of a user's own task.

    Raises:
        UserError: it is not.
    """
    first = name.split(".")[0]
    own_task = first == "task" and given.get("task.name") not in choices("task")
    if own_task or first in ELSEWHERE:
        return
    group = name.rpartition(".")[0]
    siblings = sorted(
        other[len(group) + 1 :] if group else other for other in known if other.rpartition(".")[0] == group
    )
    where = group or "the configuration"
    raise UserError(
        f"there is no setting {name}; " + (f"{where} has {', '.join(siblings)}" if siblings else f"{where} is no group")
    )


def check_text(name: str, text: str) -> None:
    """A text that can be written into a record, and may be.

    Raises:
        UserError: a character that does not belong on a line, or a secret.
    """
    if odd := [character for character in text if not character.isprintable()]:
        raise UserError(f"{name} has the character {odd[0]!a} in it; write it without")
    if secrets_in(text):
        raise UserError(
            f"{name} holds a password or a token, which would be written into the run's record and sent to W&B; keep "
            "it in ~/.netrc, in HF_TOKEN or in WANDB_API_KEY"
        )


def walk(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Each setting with its dotted name, a group before what it holds; a list is one setting."""
    if name:
        yield name, value
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from walk(item, f"{name}.{key}" if name else str(key))


def kind_of(value: Any) -> str:
    """A value's kind, in the words of an error message."""
    if isinstance(value, Mapping):
        return "a group of settings"
    if isinstance(value, list):
        return "a list of texts" if all(isinstance(item, str) for item in value) else "a list"
    if isinstance(value, bool):
        return "true or false"
    return "null" if value is None else "text" if isinstance(value, str) else "a number"


@cache
def known_settings() -> dict[str, set[str]]:
    """Each setting of ``configs/`` with the kinds of value that it has there; none where no value tells."""
    known: dict[str, set[str]] = {}
    for path in sorted(CONFIGS.rglob("*.yaml")):
        for name, value in settings_of(path):
            kinds = known.setdefault(name, set())
            if not (isinstance(value, str) and ("${" in value or value == "???")):
                kinds.add(kind_of(value))
    known = {name: set() if kinds == {"null"} else kinds for name, kinds in known.items()}
    return known | KINDS


def settings_of(path: Path) -> list[tuple[str, Any]]:
    """The settings that one file of ``configs/`` gives values to, by their place in a composed configuration."""
    text = path.read_text(encoding="utf-8")
    raw = OmegaConf.to_container(OmegaConf.create(text))
    assert isinstance(raw, dict)
    group = path.relative_to(CONFIGS).parts[0]
    place = "" if group == path.name or "@package _global_" in text else group
    settings = walk({name: value for name, value in raw.items() if name != "defaults"}, place)
    return [(name, value) for name, value in settings if name.split(".")[0] != "hydra"]


@cache
def required_settings(task: Any) -> list[str]:
    """What a configuration must have: what its task's file, a model's, a scale's and ``train.yaml`` have."""
    files = ["train", "model/gpt2-medium", "scale/paper", "logger/none"]
    if task in choices("task"):
        files += [f"task/{task}", *(["task/glue/_glue"] if task.startswith("glue/") else [])]
    names = [name for file in files for name, _ in settings_of(CONFIGS / f"{file}.yaml")]
    return [*(name for name in names if not name.startswith(OPEN)), "method.name", "method.label", "method._target_"]
