"""What an unfinished run has behind it, so that an interrupted one repeats no finished phase."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from delta_lora.files import sha256_of
from delta_lora.suite.records.records import intact, read_sealed, set_aside, write_sealed

PHASES = "phases.json"
STARTED = "started"  # on which device
TRAINED, PREDICTED = "trained", "predicted"  # what an interrupted run does not repeat
log = logging.getLogger(__name__)


def finish_phase(folder: Path, phase: str, facts: dict[str, Any], files: Sequence[str] = ()) -> None:
    """Note that ``phase`` is done: what the record will say of it, and the SHA-256 of the files that it left."""
    digests = {name: sha256_of(folder / name) for name in files}
    write_sealed(folder / PHASES, {**read(folder), phase: {"facts": facts, "files": digests}})


def finished_phase(folder: Path, phase: str) -> dict[str, Any] | None:
    """The facts of a phase that is done; None where it is not, or, with a warning, where its files are damaged."""
    entry = read(folder).get(phase)
    if entry is None:
        return None
    changed = [name for name, digest in entry["files"].items() if not intact(folder / name, digest)]
    if changed:
        log.warning("%s: %s missing or damaged; this phase is done again", folder, ", ".join(changed))
        return None
    return dict(entry["facts"])


def read(folder: Path) -> dict[str, Any]:
    """All entries; none where there is no file, or where it is damaged: then it is reported and set aside."""
    try:
        return read_sealed(folder / PHASES) or {}
    except ValueError as error:
        aside = set_aside(folder / PHASES)
        log.warning("%s is damaged (%s): kept as %s, its phases are done again", folder / PHASES, error, aside.name)
        return {}
