"""Files of a repository on the hub: downloaded once by its client, found in its cache, and checked."""

import re
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from typing import Any

from delta_lora.errors import UserError
from delta_lora.files import known_sha256


@dataclass(frozen=True)
class HubFiles:
    """Files of a repository on the hub: those that match one of the patterns."""

    repository: str
    kind: str  # "model" or "dataset"
    revision: str
    patterns: tuple[str, ...]


def snapshot(files: HubFiles, **options: Any) -> Any:
    """What the hub's client answers for the files alone; the rest of the repository need not be here."""
    from huggingface_hub import snapshot_download

    return snapshot_download(
        files.repository,
        repo_type=files.kind,
        revision=files.revision,
        allow_patterns=list(files.patterns),
        **options,
    )


def from_hub(files: HubFiles) -> Path:
    """The snapshot folder with the files; downloaded by the hub's client, or found in its cache, and checked.

    Raises:
        UserError: the hub cannot be reached and the cache has no such snapshot, or a file is damaged.
    """
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot(files))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise not_loaded(files, error) from error
    for pattern in files.patterns:
        for path in folder.glob(pattern):
            check_blob(path)
    return folder


def not_loaded(files: HubFiles, error: Exception) -> UserError:
    """What to say of files that the hub does not give."""
    elsewhere = (
        "set data_dir or DELTA_LORA_DATA (docs/data.md)"
        if files.kind == "dataset"
        else "set model.path to a folder with its checkpoint"
    )
    return UserError(
        f"could not load {files.repository} at {files.revision} from the hub: {' '.join(str(error).split())}; on "
        f"a machine without internet, {elsewhere}, or HF_HOME to a filled cache"
    )


def cached(files: HubFiles) -> Path | None:
    """The snapshot in the hub's cache with the files; None where there is none, or not all, and for no hub name."""
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot(files, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def check_blob(path: Path) -> None:
    """A file of a hub snapshot is what the hub has: its cache names each file's content by its digest.

    A file that is no link into the cache's ``blobs`` (a cache copied without its links) cannot be checked.

    Raises:
        UserError: it has changed since it was downloaded, or was cut off.
    """
    blob = path.resolve()
    if blob.parent.name != "blobs" or not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", blob.name):
        return
    if not blob.is_file():
        raise UserError(f"{path} points to no file; delete that link, and the next run downloads it again")
    if blob_digest(blob) != blob.name:
        raise UserError(
            f"{path} is damaged: its content ({blob}) is not what the hub has; delete both, and the next run downloads "
            "them again"
        )


def blob_digest(blob: Path) -> str:
    """The digest that a file of the hub's cache is named by.

    Large files (LFS) are named by their SHA-256, the others by git's SHA-1 of ``blob <size>`` and the content.
    """
    if len(blob.name) == 64:
        return known_sha256(blob)
    content = blob.read_bytes()
    return sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
