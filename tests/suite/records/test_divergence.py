"""A training that came to nothing is known by its log."""

import json
from pathlib import Path

import pytest

from delta_lora.suite.records.divergence import diverged, run_diverged
from delta_lora.suite.records.records import Run


def logged(first: float, losses: list[float]) -> list[dict[str, float]]:
    """The Trainer's log: losses, and lines of other things."""
    return [
        {"step": 1, "loss": first},
        {"step": 50, "alignment/q": 0.1},
        *({"step": 100, "loss": loss} for loss in losses),
    ]


@pytest.mark.parametrize(
    ("first", "losses", "expected"),
    [
        (2.9, [7.4, 5.7, 5.2, 5.0, 4.9], True),  # falls, from where it should never have been
        (2.9, [2.0, 1.7, 1.6, 1.7], False),
        (0.69, [0.7, 0.7, 0.69], True),
        (2.9, [3.0, 3.1], False),  # two say nothing
    ],
)
def test_a_training_has_diverged_if_its_last_losses_are_not_below_the_first(
    first: float, losses: list[float], expected: bool
) -> None:
    assert diverged(logged(first, losses)) == ((1, first, losses[-1]) if expected else None)


def test_no_log_says_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path, "0" * 16, {}, {}, {}, {}, {})
    assert diverged([]) is None and run_diverged(run) is None
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, logged(2.0, [3.0, 3.5, 4.0]))), encoding="utf-8")
    assert run_diverged(run) == (1, 2.0, 4.0)
