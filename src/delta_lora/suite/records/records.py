"""Run records: what a finished run leaves behind, and how it is found again (docs/architecture.md)."""

import gzip
import json
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from delta_lora.errors import UserError
from delta_lora.files import sha256_of, write_whole

SCHEMA = 2  # of run.json; a record of another schema is reported and left out
log = logging.getLogger(__name__)


class NoRunError(UserError):
    """What is to be shown has no finished run."""


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

    @property
    def name(self) -> str:
        """For people: ``e2e / gpt2-tiny / delta-lora, seed 1``."""
        return name_of(self.config)

    def text(self, name: str) -> str:
        """A file of its folder, which may be compressed there (``predictions.jsonl.gz``).

        Raises:
            OSError, ValueError: it is not there, or cannot be read.
        """
        packed = self.path / f"{name}.gz"
        if packed.is_file():
            return gzip.decompress(packed.read_bytes()).decode("utf-8")
        return (self.path / name).read_text(encoding="utf-8")

    def predictions(self) -> list[dict[str, Any]]:
        """The test items with their predictions, in the official order."""
        return jsonl(self.text("predictions.jsonl"))


def name_of(config: Mapping[str, Any]) -> str:
    """What the run of a record's configuration is called.

    Raises:
        KeyError, TypeError: it is not one.
    """
    names = (config[group]["name"] for group in ("task", "model", "method"))
    return f"{' / '.join(map(str, names))}, seed {config['seed']}"


def run_folder(results_dir: Path, key: str) -> Path:
    """``<results>/runs/<key>``: where a run is made."""
    return results_dir / "runs" / key


def kept_folder(results_dir: Path, scale: str, key: str) -> Path:
    """``<results>/<scale>/runs/<key>``: where what tables need of a finished run is kept, and committed."""
    return results_dir / scale / "runs" / key


def find_run(results_dir: Path, key: str) -> Run | None:
    """A finished run: as it was made here, or as it was kept."""
    made = read_run(run_folder(results_dir, key))
    return made or next(filter(None, map(read_run, sorted(results_dir.glob(f"*/runs/{key}")))), None)


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
    try:
        return checked_run(folder)
    except FileNotFoundError:
        return None
    except ValueError as error:
        log.warning("%s is left out: %s", folder / "run.json", error)
        return None


def checked_run(folder: Path) -> Run:
    """The record in a folder, held against its seal and its files against theirs.

    Raises:
        FileNotFoundError: the run is unfinished.
        ValueError: what is wrong with it.
    """
    path = folder / "run.json"
    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["schema"] == SCHEMA:
            raw = unsealed(raw)
            changed = [name for name, digest in raw["files"].items() if not intact(folder / name, digest)]
            fields = [raw[name] for name in ("config", "metrics", "counts", "train", "environment")]
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise ValueError(f"it cannot be read as a record ({error})") from error
    if raw["schema"] != SCHEMA:
        raise ValueError(f"its schema is {raw['schema']}, this version reads {SCHEMA}")
    if changed:
        raise ValueError(f"{', '.join(changed)} missing or changed since the run")
    if raw.get("key") != folder.name or any(not isinstance(field, dict) for field in fields):
        raise ValueError("its fields are not those of a record, or another run's")
    return Run(folder, raw["key"], *fields)


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


def made_runs(results_dir: Path) -> list[Run]:
    """All finished, undamaged runs below ``<results>/runs``, by key: those that were made here."""
    return runs_in(results_dir / "runs")


def kept_runs(results_dir: Path, scale: str = "*") -> list[Run]:
    """All undamaged runs below ``<results>/<scale>/runs``, by scale and key."""
    return [run for folder in sorted(results_dir.glob(f"{scale}/runs")) for run in runs_in(folder)]


def read_runs(results_dir: Path) -> list[Run]:
    """All finished, undamaged runs by key, each once: those that were made here, and those that were kept."""
    found = {run.key: run for run in [*kept_runs(results_dir), *made_runs(results_dir)]}
    return [found[key] for key in sorted(found)]


def runs_in(folder: Path) -> list[Run]:
    """The finished, undamaged runs whose folders are in this one, by key."""
    return [run for path in sorted(folder.glob("*/")) if (run := read_run(path)) is not None]


def intact(path: Path, digest: str) -> bool:
    """Whether a file is there with this SHA-256."""
    return path.is_file() and sha256_of(path) == digest


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """One JSON object a line, written whole or not at all."""
    write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file."""
    return jsonl(path.read_text(encoding="utf-8"))


def jsonl(text: str) -> list[dict[str, Any]]:
    """The objects of JSON lines."""
    # Not splitlines: a text may have U+2028 and other ends of lines in it, which JSON does not escape.
    return [json.loads(line) for line in text.split("\n") if line]
