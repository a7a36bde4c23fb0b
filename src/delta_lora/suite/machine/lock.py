"""One process at a time in a run's folder."""

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import Timeout

from delta_lora.files import locked
from delta_lora.places import unusable

log = logging.getLogger(__name__)


class Busy(Exception):
    """Another process has the run; its message says which."""


@contextmanager
def held(folder: Path, name: str, wait: bool) -> Iterator[None]:
    """Hold the run in ``folder``; the operating system lets go of it when this process dies, however it dies.

    The lock also keeps processes on other machines out, where they share a file system: one that passes locks on, as
    NFS does, or, by a lease, one that has none (:func:`delta_lora.files.locked`).

    Args:
        folder: the run's folder; the lock lies beside it.
        name: of the cell, for messages.
        wait: for another process that holds it; otherwise `Busy` is raised.

    Raises:
        Busy: another process holds it, and ``wait`` is False.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f".{folder.name}.lock")
    lock, owner = None, path.with_suffix(".owner")
    try:
        lock = locked(path, timeout=0)
    except Timeout:
        if not wait:
            raise Busy(f"{name}: {described(owner)} is at it; skipped") from None
        print(f"{name}: {described(owner)} is at it; waiting for it", flush=True)
        lock = locked(path)
    except OSError as error:
        if unusable(error) is not None:
            raise
        log.warning("%s: no lock in this folder (%s); see that nobody else runs this cell", name, error)
    try:
        owner.write_text(json.dumps({"host": socket.gethostname(), "process": os.getpid()}), encoding="utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        if lock is not None:
            lock.release()


def described(owner: Path) -> str:
    """``process 4711 on node3``."""
    try:
        known = json.loads(owner.read_text(encoding="utf-8"))
        return f"process {known['process']} on {known['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
