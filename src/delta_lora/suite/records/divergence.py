"""Whether a training came to anything, by its log."""

from collections.abc import Iterable, Mapping
from statistics import mean
from typing import Any, NamedTuple

from delta_lora.suite.records.records import Run, jsonl

LAST_LOSSES = 3  # logged ones, whose mean tells


class Ends(NamedTuple):
    """The first and the last logged loss of a training, and the step that the first was logged at."""

    step: int
    first: float
    last: float


def diverged(log: Iterable[Mapping[str, Any]]) -> Ends | None:
    """The ends of a training that has ended no better than it began; None of any other.

    Args:
        log: the Trainer's ``log_history``. Its first loss is that of the model before training (step 1), or, where the
            first step was not logged, the mean over the steps until then. Fewer than `LAST_LOSSES` later ones say
            nothing.
    """
    lines = [line for line in log if "loss" in line]
    losses = [line["loss"] for line in lines]
    if len(losses) <= LAST_LOSSES or mean(losses[-LAST_LOSSES:]) < losses[0]:
        return None
    return Ends(lines[0]["step"], losses[0], losses[-1])


def run_diverged(run: Run) -> Ends | None:
    """The same of a finished run; None also where it has no log."""
    try:
        return diverged(jsonl(run.text("log.jsonl")))
    except (OSError, ValueError):
        return None
