"""Folders that are made once and then only read: there whole or not at all, made by one process while others wait."""

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import Timeout

from delta_lora.files import known_sha256, locked

log = logging.getLogger(__name__)


def made_once(folder: Path, manifest: str, make: Callable[[Path], dict[str, Any]]) -> Path:
    """A folder with what ``make`` writes, made where it is not there.

    It appears by rename when it is complete. Of several processes that ask at once, one makes it and the others wait. A
    folder whose files are not those that were written (by SHA-256) is set aside and made again; what a killed process
    left of one is deleted.

    Args:
        folder: its name says what is in it: other content is another folder.
        manifest: name of a file that is added to it: what ``make`` returned, and the SHA-256 of all others.
        make: writes into an empty folder; returns what is to be known of it.
    """
    if is_complete(folder, manifest):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f".{folder.name}.lock")
    try:
        lock = locked(path, timeout=0)
    except Timeout:
        log.warning("%s is being made by another process; waiting for it", folder.name)
        lock = locked(path)
    try:
        if not is_complete(folder, manifest):
            write(folder, manifest, make)
    finally:
        lock.release()
    return folder


def is_complete(folder: Path, manifest: str) -> bool:
    """Whether the folder is there, with the files that were written."""
    try:
        files = json.loads((folder / manifest).read_text(encoding="utf-8"))["files"]
        return all(known_sha256(folder / name) == digest for name, digest in files.items())
    except (OSError, ValueError, KeyError):
        return False


def write(folder: Path, manifest: str, make: Callable[[Path], dict[str, Any]]) -> None:
    """Make the folder; whoever calls it holds the folder's lock."""
    for left in folder.parent.glob(f".{folder.name}.*.part"):
        shutil.rmtree(left, ignore_errors=True)
    if folder.exists():
        damaged = folder.with_name(f"{folder.name}.damaged-{time.time_ns()}")
        folder.replace(damaged)
        log.warning("%s is incomplete or damaged: kept as %s, made again", folder, damaged.name)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part") as parent:
        start, temporary = time.monotonic(), Path(parent) / folder.name
        temporary.mkdir()
        facts = make(temporary)
        files = {path.name: known_sha256(path) for path in sorted(temporary.iterdir())}
        facts |= {"files": files, "seconds": round(time.monotonic() - start)}
        (temporary / manifest).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        temporary.replace(folder)
