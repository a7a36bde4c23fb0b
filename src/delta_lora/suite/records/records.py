"""Run records: what a finished run leaves behind, and how it is found again (docs/architecture.md)."""

import json
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from delta_lora.files import sha256_of, write_whole

SCHEMA = 2  # of run.json; a record of another schema is reported and left out
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


def outputs(folder: Path) -> list[str]:
    """The files that a run leaves, relative to its folder: not its record, nor what it needs only while it runs."""
    names = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    passing = {"run.json", "phases.json", "checkpoints"}
    # A name with a dot is what a killed process left of a file that it was writing, or what was set aside.
    hidden = [name for name in names if name.parts[0] in passing or any(part[0] == "." for part in name.parts)]
    return [name.as_posix() for name in names if name not in hidden]


def write_record(folder: Path, record: dict[str, Any]) -> Run:
    """Write ``run.json`` last, by rename, with the SHA-256 of every file beside it."""
    files = {name: sha256_of(folder / name) for name in outputs(folder)}
    write_sealed(folder / "run.json", {"schema": SCHEMA, **record, "files": files})
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
        raw = unsealed(raw)
        changed = [name for name, digest in raw["files"].items() if not intact(folder / name, digest)]
        if changed:
            log.warning("%s is left out: %s missing or changed since the run", path, ", ".join(changed))
            return None
        fields = ("config", "metrics", "counts", "train", "environment")
        if raw["key"] != folder.name or any(not isinstance(raw[name], dict) for name in fields):
            log.warning("%s is left out: its fields are not those of a record, or another run's", path)
            return None
        return Run(folder, raw["key"], *(raw[name] for name in fields))
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        log.warning("%s is left out: it cannot be read as a record (%s)", path, error)
        return None


def digest_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON object, whatever the order of its fields and the white space of its file."""
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object whole or not at all, with the SHA-256 of its content in the field ``sha256``."""
    write_whole(path, json.dumps({**content, "sha256": digest_of(content)}, indent=1) + "\n")


def unsealed(raw: dict[str, Any]) -> dict[str, Any]:
    """The content of what :func:`write_sealed` wrote.

    Raises:
        ValueError: it has changed since.
    """
    content = {name: value for name, value in raw.items() if name != "sha256"}
    if raw.get("sha256") != digest_of(content):
        raise ValueError("its content is not what its SHA-256 says")
    return content


def read_sealed(path: Path) -> dict[str, Any] | None:
    """What :func:`write_sealed` wrote; None where there is no file.

    Raises:
        ValueError: it was cut off, or has changed since.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if not isinstance(raw, dict):
        raise ValueError("it is no JSON object")
    return unsealed(raw)


def set_aside(path: Path) -> Path:
    """Rename what is damaged, or another version's, so that it is neither used nor lost; returns its new place."""
    aside = path.with_name(f".damaged-{time.time_ns()}-{path.name}")
    path.rename(aside)
    return aside


def read_runs(results_dir: Path) -> list[Run]:
    """All finished, undamaged runs below ``<results>/runs``, by key."""
    folders = sorted((results_dir / "runs").glob("*/"))
    return [run for folder in folders if (run := read_run(folder)) is not None]


def intact(path: Path, digest: str) -> bool:
    """Whether a file is there with this SHA-256."""
    return path.is_file() and sha256_of(path) == digest


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """One JSON object a line, written whole or not at all."""
    write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file."""
    # Not splitlines: a text may have U+2028 and other ends of lines in it, which JSON does not escape.
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
