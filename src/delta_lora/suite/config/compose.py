"""Where Hydra composes configurations: the folder, its choices, and what goes wrong there."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from delta_lora.errors import UserError
from delta_lora.places import place, variable

CONFIGS = Path(__file__).resolve().parents[4] / "configs"
MISTAKES = (UserError, HydraException, OmegaConfBaseException, YAMLError)  # the user's, as opposed to the program's
# What Hydra lets through where an override does not fit the configuration (an index of a list that is a word, …).
MISAPPLIED = (ValueError, TypeError, AttributeError, LookupError, AssertionError, RecursionError)


def times(factor: Any, value: Any) -> Any:
    """Their product without a float's noise; a value that is no number as it is, for the checks to name."""
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in (factor, value)):
        return value
    return float(f"{factor * value:.12g}")


# What configs/train.yaml asks for: a variable of the environment, and a folder as Hydra itself can use it.
OmegaConf.register_new_resolver("variable", variable, replace=True)
OmegaConf.register_new_resolver("times", times, replace=True)
OmegaConf.register_new_resolver("place", lambda setting, given: str(place(setting, given)), replace=True)


def scaled(value: float, ratio: float) -> float:
    """(1 + ``ratio``) · ``value``, without a float's noise; whole numbers as ints, for labels.

    Of α and λ it is the α at which LoRA has the scale that Delta-LoRA's branch has after step K.
    """
    found = float(f"{(1 + ratio) * value:.12g}")
    return int(found) if found.is_integer() else found


OmegaConf.register_new_resolver("scaled", scaled, replace=True)  # for configs/method/controls


def choices(group: str) -> list[str]:
    """What can be chosen in a configuration group, nested choices (``glue/cola``) too."""
    folder = CONFIGS / group
    files = (path.relative_to(folder).with_suffix("") for path in sorted(folder.rglob("*.yaml")))
    return [path.as_posix() for path in files if not path.name.startswith("_")]


def choice_named(group: str, name: str) -> str:
    """The choice of a group whose configuration has this name: mostly the same word, for ``lora-plain`` another.

    The name itself where there is none.
    """
    known = choices(group)
    files = ((choice, OmegaConf.load(CONFIGS / group / f"{choice}.yaml")) for choice in known)
    return (
        name
        if name in known
        else next((choice for choice, file in files if OmegaConf.select(file, "name") == name), name)
    )


@contextmanager
def composing() -> Iterator[None]:
    """Hydra composes inside, from `CONFIGS`; an override that it cannot apply is one of `MISTAKES`."""
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            yield
    except MISAPPLIED as error:
        if isinstance(error, MISTAKES):
            raise
        raise misapplied(error) from error


def composed(overrides: Sequence[str]) -> DictConfig:
    """One job's configuration, resolved; inside :func:`composing`."""
    return resolved(compose("train", list(overrides)))


def composed_anywhere(overrides: Sequence[str]) -> DictConfig:
    """:func:`composed`, also where nothing is composing, and within a job that Hydra has started."""
    if GlobalHydra.instance().is_initialized():
        return composed(overrides)
    with composing():
        return composed(overrides)


def resolved(config: DictConfig) -> DictConfig:
    """A copy of a configuration without interpolations, as a record holds it."""
    return DictConfig(OmegaConf.to_container(config, resolve=True))


class LeftOut(UserError):
    """The table is none of the scale's."""


def check_table(config: DictConfig, table: str | None) -> None:
    """A composed configuration's scale has the table that is asked for.

    Raises:
        LeftOut: it has not, and why.
    """
    if table is not None and (why := config.scale.get("left_out", {}).get(table)) is not None:
        raise LeftOut(why_not(table, config.scale.name, why))


def why_not(table: str, scale: str, why: str) -> str:
    """What to say of a table that a scale leaves out: the reason, and which scale has it."""
    *_, other = (name for name in choices("scale") if table not in left_out([f"scale={name}"]))
    return f"{table} is none of scale={scale}: {why}; make {table} SCALE={other} has it"


def left_out(arguments: Sequence[str]) -> dict[str, str]:
    """The tables that the scale among a command's words has not, and why; nothing where there is no such scale."""
    names = [word.removeprefix("scale=") for word in arguments if word.startswith("scale=")]
    path = CONFIGS / "scale" / f"{names[-1] if names else 'paper'}.yaml"
    group = OmegaConf.load(path) if path.is_file() else OmegaConf.create()
    found = (OmegaConf.select(group, name) for name in ("scale.left_out", "left_out"))  # paper.yaml has scale's alone
    return dict(next(filter(None, found), {}))


def misapplied(error: Exception) -> UserError:
    """What to tell of an override that does not fit the configuration."""
    return UserError(f"an override cannot be applied ({error}); give KEY=VALUE with a key that --cfg job prints")


def in_sweep() -> bool:
    """Whether this is a job of a sweep (it may run in another process than the sweep itself)."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
