"""Files that several share: written whole, locked by one process at a time, or downloaded once and checked."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from errno import ENOLCK, ENOSYS, EOPNOTSUPP
from functools import cache
from hashlib import file_digest, sha256
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from delta_lora.errors import UserError

if TYPE_CHECKING:
    from filelock import BaseFileLock

LEASE = 60  # seconds; renewed three times in that
log = logging.getLogger(__name__)


def locked(path: Path, timeout: float = -1) -> "BaseFileLock":
    """Take the lock ``path``, which nobody holds longer than the process that took it lives.

    It is one of the file system (``flock``). Where that has none (ENOSYS, ENOLCK: some network and container file
    systems) it is a lease beside it, renewed while its owner lives and free `LEASE` seconds after its last renewal.

    Args:
        path: of the lock file; it stays when the lock is released.
        timeout: seconds to wait for another owner; 0: do not, -1: for ever.

    Raises:
        filelock.Timeout: another process has it.
        OSError: the file cannot be made there.
    """
    from filelock import FileLock, SoftFileLease

    lock: BaseFileLock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(timeout=timeout)
        return lock
    except (NotImplementedError, OSError) as error:
        if isinstance(error, TimeoutError) or getattr(error, "errno", ENOSYS) not in (ENOSYS, ENOLCK, EOPNOTSUPP):
            raise
        log.warning("no locks on this file system (%s): %s is kept by a lease of %d s", error, path.name, LEASE)
    lock = SoftFileLease(path.with_suffix(".lease"), lease_duration=LEASE)
    lock.acquire(timeout=timeout)
    return lock


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to: flushed to disk and renamed when the block ends well, else deleted.

    So whoever reads ``path``, also after a crash, finds the old file or the new one. The folder must be there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, whole or not at all (:func:`whole`); its folder is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as hex digits."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def known_sha256(path: Path) -> str:
    """:func:`sha256_of`, computed once a process while the file keeps its size and time."""
    status = path.stat()
    return _known_sha256(path.resolve(), status.st_size, status.st_mtime_ns)


@cache
def _known_sha256(path: Path, size: int, changed: int) -> str:
    return sha256_of(path)


def digest_of(files: Mapping[str, str]) -> str:
    """One digest for several files: SHA-256 over their names and SHA-256s, whatever archive they came in.

    Args:
        files: name below their folder → hex digest.
    """
    lines = [f"{name} {files[name]}\n" for name in sorted(files, key=PurePosixPath)]
    return sha256("".join(lines).encode()).hexdigest()


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
        check_sha256(folder / name, expected, str(folder / name))


def check_sha256(path: Path, expected: str, name: str) -> None:
    """Hold a file against its digest.

    Args:
        path: the file.
        expected: hex digits.
        name: what an error calls it.

    Raises:
        UserError: it differs (with both digests).
    """
    found = known_sha256(path)
    if found != expected:
        raise UserError(
            f"{name} is not the released file: its SHA-256 is {found}, expected {expected}; replace it with the "
            "original"
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

    pooch.get_logger().setLevel("WARNING")
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
