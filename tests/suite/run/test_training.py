"""What of a task's training settings reaches the optimizer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from delta_lora.suite.config.cell import build_cell
from delta_lora.suite.run.inputs import load_inputs
from delta_lora.suite.run.recipe import prepare
from delta_lora.suite.run.training import make_trainer


@pytest.mark.parametrize(("decay", "decaying"), [("weights", {"matrix"}), ("all", {"matrix", "vector"})])
def test_epsilon_and_what_decays_reach_the_optimizer(
    short: Callable[..., DictConfig], tmp_path: Path, decay: str, decaying: set[str]
) -> None:
    cell = build_cell(
        short("method=full", f"task.train.decay={decay}", "task.train.adam_epsilon=1e-6", "task.train.weight_decay=0.5")
    )
    trainer: Any = make_trainer(cell, prepare(cell), load_inputs(cell), tmp_path, 8)
    optimizer = trainer.create_optimizer()
    assert {group["eps"] for group in optimizer.param_groups} == {1e-6}
    decayed = [p for group in optimizer.param_groups if group["weight_decay"] == 0.5 for p in group["params"]]
    assert {"matrix" if p.dim() > 1 else "vector" for p in decayed} == decaying
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(trainer.model.parameters()))
