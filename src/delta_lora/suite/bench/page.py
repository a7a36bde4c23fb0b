"""A benchmark's record and its page: results/bench/<device>.json and .md."""

import json
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from delta_lora.files import write_whole
from delta_lora.suite.bench.cases import MODELS


def keep(folder: Path, machine: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Put the rows of one or more models into the record of their device; models measured earlier stay in it.

    Args:
        folder: of the results; made where it is missing.
        machine: from :func:`environment`.
        rows: from :func:`delta_lora.suite.bench.costs.measure`.
    """
    record = add(folder, "", machine, rows, lambda row: list(MODELS).index(row["model"]))
    write(folder, "", record, markdown(record))


def add(
    folder: Path, prefix: str, machine: dict[str, Any], rows: list[dict[str, Any]], order: Callable[[Any], Any]
) -> dict[str, Any]:
    """A device's record with these rows in place of those of their models; ``order`` is of a row, a sort's key."""
    path = record_file(folder, prefix, machine)
    kept = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    measured = {row["model"] for row in rows}
    return {
        "environment": machine,
        "rows": sorted([*(row for row in kept if row["model"] not in measured), *rows], key=order),
    }


def write(folder: Path, prefix: str, record: dict[str, Any], page: str) -> None:
    """Write a device's record, and its page beside it; the folder is made where it is missing."""
    path = record_file(folder, prefix, record["environment"])
    write_whole(path, json.dumps(record, indent=1) + "\n")
    write_whole(path.with_suffix(".md"), page)


def record_file(folder: Path, prefix: str, machine: dict[str, Any]) -> Path:
    """``<prefix>cpu.json`` or ``<prefix>cuda.json``."""
    return folder / f"{prefix}{'cpu' if machine['device'].startswith('CPU') else 'cuda'}.json"


def markdown(record: dict[str, Any]) -> str:
    """The record as a table for people."""
    machine = record["environment"]
    lines = [
        f"# Benchmark: {machine['device']}",
        "",
        f"Batch size {machine['batch_size']}, {machine['steps']} steps each, torch {machine['torch']}, "
        f"peft {machine['peft']}, {machine['threads']} CPU thread(s). × is the ratio to PEFT's LoRA, measured in turn "
        "with it; in brackets the quartiles over the steps. Compare the ratios: the seconds of different rows also "
        "carry what else the machine did at the time. Models of full size with random weights "
        "(`python scripts/bench.py --help` says how).",
        "",
        "| model | method | step (s) | × LoRA | examples/s | peak memory (GB) | × LoRA | checkpoint (MB) | × LoRA |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in record["rows"]:
        low, high = row["step_ratio_quartiles"]
        lines.append(
            f"| {row['model']} | {row['method']} | {row['step_seconds']:.3f} | {row['step_ratio']:.2f} "
            f"({low:.2f}–{high:.2f}) | {row['examples_per_second']:.2f} | {row['peak_memory_bytes'] / 1e9:.2f} "
            f"| {row['peak_memory_ratio']:.2f} | {row['checkpoint_bytes'] / 1e6:.1f} | {row['checkpoint_ratio']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def environment(device: str, batch_size: int, steps: int) -> dict[str, Any]:
    """What the numbers depend on."""
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {platform.machine()}"
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "batch_size": batch_size,
        "steps": steps,
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "transformers", "peft")},
    }
