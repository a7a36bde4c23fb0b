"""What a run ran on, for its record: versions, device, the code's commit."""

import platform
import re
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from delta_lora.suite.machine.devices import device_name, processor

PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets", "evaluate", "tokenizers", "numpy")


def environment() -> dict[str, Any]:
    """``python``, ``versions`` by package, ``device``, ``processor``, ``platform``, ``git_commit``."""
    return {
        "python": platform.python_version(),
        "versions": versions(),
        "device": device_name(),
        "processor": processor(),
        "platform": platform.platform(),
        "git_commit": git_commit(),
    }


def versions() -> dict[str, str]:
    """By package; a machine that only trains need not have those that score."""
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def git_commit() -> str | None:
    """Commit of the working tree, with ``+`` where its code or settings differ from it.

    None outside a checkout, and where git (or a wrapper of it) answers something else than a commit.
    """
    try:
        commit = git("rev-parse", "HEAD")
        changes = git("status", "--porcelain", "--untracked-files=no", "--", ":/src", ":/configs", ":/scripts")
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changes else "") if re.fullmatch("[0-9a-f]{40,64}", commit) else None


def git(*arguments: str) -> str:
    """What a git command prints, run where this file is."""
    command = ["git", *arguments]
    return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout.strip()
