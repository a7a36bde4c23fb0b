"""What an unfinished run has behind it, so that an interrupted one repeats no finished phase."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from delta_lora.suite.records import intact, write_text
from delta_lora.tasks.base import sha256_of

FILE = "phases.json"
log = logging.getLogger(__name__)


def finish_phase(folder: Path, phase: str, facts: dict[str, Any], files: Sequence[str] = ()) -> None:
    """Note that ``phase`` is done: what the record will say of it, and the SHA-256 of the files that it left."""
    digests = {name: sha256_of(folder / name) for name in files}
    write_text(folder / FILE, json.dumps({**read(folder), phase: {"facts": facts, "files": digests}}))


def finished_phase(folder: Path, phase: str) -> dict[str, Any] | None:
    """The facts of a phase that is done; None where it is not, or, with a warning, where its files are damaged."""
    try:
        entry = read(folder)[phase]
        changed = [name for name, digest in entry["files"].items() if not intact(folder / name, digest)]
        facts = dict(entry["facts"])
    except (KeyError, TypeError, AttributeError, ValueError):
        return None
    if changed:
        log.warning("%s: %s missing or damaged; this phase is done again", folder, ", ".join(changed))
        return None
    return facts


def read(folder: Path) -> dict[str, Any]:
    """All entries; none where the file is missing or cannot be read."""
    try:
        entries = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return entries if isinstance(entries, dict) else {}
    except (OSError, ValueError):
        return {}
