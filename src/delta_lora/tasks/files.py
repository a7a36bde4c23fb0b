"""Data files: found in a local folder, or downloaded once and checked by SHA-256."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from delta_lora.errors import UserError
from delta_lora.tasks.base import sha256_of


@dataclass(frozen=True)
class HubFiles:
    """Files of a repository on the hub: those that match one of the patterns."""

    repository: str
    kind: str  # "model" or "dataset"
    revision: str
    patterns: tuple[str, ...]


@dataclass(frozen=True)
class WebFile:
    """A file on a web server, and where it (or what is unpacked from it) is kept."""

    url: str
    place: Path


def check_local(folder: Path, sha256: Mapping[str, str]) -> None:
    """Hold a folder's files against their digests.

    Args:
        folder: where the files should be.
        sha256: file name → hex digest.

    Raises:
        UserError: a file is missing (with what was looked for) or differs (with both digests).
    """
    missing = [name for name in sha256 if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"data_dir has no {', '.join(missing)}: looked in {folder} for {', '.join(sha256)}; "
            "point data_dir or DELTA_LORA_DATA at a folder in the layout of docs/data.md, or unset it to download"
        )
    for name, expected in sha256.items():
        found = sha256_of(folder / name)
        if found != expected:
            raise UserError(
                f"{folder / name} is not the released file: its SHA-256 is {found}, expected {expected}; "
                "replace it with the original"
            )


def download(url: str, folder: Path, sha256: Mapping[str, str]) -> Path:
    """Download the files once, check each by SHA-256, and return their folder.

    Args:
        url: what the file names are appended to.
        folder: the cache; complete files that match their digest are not fetched again.
        sha256: file name → hex digest.

    Raises:
        UserError: no connection, or what came has another digest (nothing is kept then).
    """
    import pooch

    folder.mkdir(parents=True, exist_ok=True)
    for name, digest in sha256.items():
        try:
            pooch.retrieve(f"{url}{name}", f"sha256:{digest}", fname=name, path=folder)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"could not download {url}{name}: {reason}; on a machine without internet, set data_dir or "
                "DELTA_LORA_DATA to a folder in the layout of docs/data.md"
            ) from error
    return folder
