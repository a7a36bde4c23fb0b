"""What a table needs from the internet: how much it is, and fetched ahead of time for machines without."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from delta_lora.errors import UserError
from delta_lora.models.load import FILES
from delta_lora.suite.config import task_class
from delta_lora.suite.grid import compose_grid
from delta_lora.tasks.files import HubFiles, WebFile, from_hub

TIMEOUT = 20  # seconds for a server to say how large a file is


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
    found: dict[str, Download] = {}
    for cell in compose_grid(overrides).cells:
        for name, describe in (
            (f"model {cell.config.model.name}", describe_model),
            (f"data {cell.config.task.name}", describe_data),
        ):
            if name not in found and (download := describe(name, cell.config)) is not None:
                found[name] = download
    return list(found.values())


def describe_model(name: str, config: DictConfig) -> Download | None:
    """The model's files on the hub; None where it is a local folder or one that the project makes."""
    path = config.model.path
    if path is None or Path(str(path)).expanduser().is_dir():
        return None
    files = HubFiles(path, "model", config.model.revision, FILES)
    return from_hub_files(name, files)


def describe_data(name: str, config: DictConfig) -> Download | None:
    """The task's files; None where they are generated or lie in ``data_dir``."""
    data_dir = None if config.data_dir is None else Path(config.data_dir).expanduser()
    task = task_class(config.task)(config.task, data_dir, Path(config.cache_dir).expanduser())
    if task.generated or data_dir is not None:
        return None
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


def from_hub_files(name: str, files: HubFiles) -> Download:
    """Asks the hub what would be downloaded.

    Raises:
        UserError: it cannot be reached, has no such repository or revision, or nothing in it matches.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

    disable_progress_bars()  # asking is quick
    try:
        listed: Any = snapshot_download(
            files.repository,
            repo_type=files.kind,
            revision=files.revision,
            allow_patterns=list(files.patterns),
            dry_run=True,
        )
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


def bytes_text(count: int | None) -> str:
    """``1.52 GB``, ``11.80 MB``, ``0.3 kB`` (10⁹, 10⁶ and 10³ bytes); ``size unknown``."""
    if count is None:
        return "size unknown"
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.2f} {name}"
    return f"{count / 1e3:.1f} kB"
