"""Whether a training came to anything, by its log."""

from collections.abc import Iterable, Mapping
from statistics import mean
from typing import Any

from delta_lora.suite.records.records import Run, jsonl

LAST_LOSSES = 3  # logged ones, whose mean tells


def diverged(log: Iterable[Mapping[str, Any]]) -> tuple[float, float] | None:
    """The first and the last loss of a training that has ended no better than it began; None of any other.

    Args:
        log: the Trainer's ``log_history``, whose first loss is that of the model before training. Fewer than
            `LAST_LOSSES` later ones say nothing.
    """
    first, *losses = [line["loss"] for line in log if "loss" in line] or [0.0]
    return (first, losses[-1]) if len(losses) >= LAST_LOSSES and mean(losses[-LAST_LOSSES:]) >= first else None


def run_diverged(run: Run) -> tuple[float, float] | None:
    """The same of a finished run; None also where it has no log."""
    try:
        return diverged(jsonl(run.text("log.jsonl")))
    except (OSError, ValueError):
        return None
