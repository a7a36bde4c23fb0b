"""Kill it anywhere: after any number of SIGKILLs the same command ends with bitwise the same numbers."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from kills import Killer, outcome
from omegaconf import DictConfig
from test_cell import METHODS

KILLS = int(os.environ.get("KILLS", "20"))  # per method; make chaos: more
SHORTER = ["task.max_train_examples=48", "task.train.save_steps=3", "task.delta_lora.start_steps=2"]


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_is_killed_at_any_moment_ends_as_the_undisturbed_one(
    short: Callable[..., DictConfig], tmp_path: Path, method: str
) -> None:
    killer = Killer(short(f"method={method}", *SHORTER), tmp_path, seed=METHODS.index(method))
    expected = outcome(killer.whole)
    for run in killer.until(KILLS):
        assert outcome(run) == expected
    assert killer.kills == KILLS
