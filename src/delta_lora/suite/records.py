"""Run records: what a finished run leaves behind, and how it is found again (docs/architecture.md)."""

import json
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delta_lora.tasks.base import sha256_of

SCHEMA = 1  # of run.json; a record of another schema is reported and left out
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A finished run, as its ``run.json`` tells it."""

    path: Path
    key: str
    config: dict[str, Any]
    metrics: dict[str, float]
    counts: dict[str, int]
    train: dict[str, Any]
    environment: dict[str, Any]

    def predictions(self) -> list[dict[str, Any]]:
        """The test items with their predictions, in the official order."""
        return read_jsonl(self.path / "predictions.jsonl")


def run_folder(results_dir: Path, key: str) -> Path:
    """``<results>/runs/<key>``."""
    return results_dir / "runs" / key


def write_record(folder: Path, record: dict[str, Any]) -> Run:
    """Write ``run.json`` last, by rename, with the SHA-256 of every file beside it."""
    files = {
        str(path.relative_to(folder)): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name not in ("run.json", "phases.json")
        and not path.name.startswith(".")  # what a killed process left of a file that it was writing
        and "checkpoints" not in path.relative_to(folder).parts
    }
    write_text(folder / "run.json", json.dumps({"schema": SCHEMA, **record, "files": files}, indent=1) + "\n")
    run = read_run(folder)
    assert run is not None, f"the record just written in {folder} cannot be read"
    return run


def read_run(folder: Path) -> Run | None:
    """The record in a folder; None where the run is unfinished, and, with a warning, where it is damaged."""
    path = folder / "run.json"
    if not path.is_file():
        return None
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["schema"] != SCHEMA:
            log.warning("%s is left out: its schema is %s, this version reads %s", path, raw["schema"], SCHEMA)
            return None
        changed = [name for name, digest in raw["files"].items() if not intact(folder / name, digest)]
        if changed:
            log.warning("%s is left out: %s missing or changed since the run", path, ", ".join(changed))
            return None
        fields = ("config", "metrics", "counts", "train", "environment")
        if raw["key"] != folder.name or any(not isinstance(raw[name], dict) for name in fields):
            log.warning("%s is left out: its fields are not those of a record, or another run's", path)
            return None
        return Run(folder, raw["key"], *(raw[name] for name in fields))
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        log.warning("%s is left out: it cannot be read as a record (%s)", path, error)
        return None


def read_runs(results_dir: Path) -> list[Run]:
    """All finished, undamaged runs below ``<results>/runs``, by key."""
    folders = sorted((results_dir / "runs").glob("*/"))
    return [run for folder in folders if (run := read_run(folder)) is not None]


def intact(path: Path, digest: str) -> bool:
    """Whether a file is there with this SHA-256."""
    return path.is_file() and sha256_of(path) == digest


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: a temporary file beside it, flushed to disk, renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """One JSON object a line, written whole or not at all."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
