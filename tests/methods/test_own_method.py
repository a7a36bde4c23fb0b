"""A method of one's own is one configuration file and one short module; nothing else in the project knows of it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT
from helpers.extending import documented
from helpers.runs import SHORT
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from delta_lora.errors import UserError
from delta_lora.methods.lookup import without
from delta_lora.suite.config.cell import build_cell
from delta_lora.suite.plan.plan import parameters
from delta_lora.suite.records.records import read_jsonl, run_folder
from delta_lora.suite.run.recipe import run_cell

# As docs/extending.md has them, but for a module outside the package.
YAML = documented()["configs/method/pissa-delta-lora.yaml"].replace(
    "delta_lora.methods.pissa_delta_lora", "pissa_delta_lora"
)
MODULE = documented()["src/delta_lora/methods/pissa_delta_lora.py"]


@pytest.fixture
def own(
    gpt2_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_scores: None
) -> Callable[..., DictConfig]:
    """``own(…)``: a short run of the method, composed from a copy of ``configs/`` with its file."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / "configs" / "method" / "pissa-delta-lora.yaml").write_text(YAML)
    (tmp_path / "pissa_delta_lora.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("DELTA_LORA_DATA", raising=False)
    places = [f"results_dir={tmp_path / 'results'}", f"model.path={gpt2_checkpoint}", "model.hidden_size=32"]

    def build(*overrides: str) -> DictConfig:
        with initialize_config_dir(str(tmp_path / "configs"), version_base="1.3"):
            chosen = ["task=e2e", "method=pissa-delta-lora", "logger=none"]
            return compose("train", [*chosen, *SHORT, *places, *overrides])

    return build


def test_it_trains_scores_and_its_adapter_fits_the_untouched_checkpoint(
    own: Callable[..., DictConfig],
) -> None:
    config = own()
    cell = build_cell(config)
    rank, layers, width = config.method.rank, 2 * 2, 32
    factors = layers * rank * 2 * width
    assert parameters(cell) == (factors, 3 * factors), "A and B at their start, at the anchor and at the end"
    run = run_cell(config)
    assert run is not None and "BLEU" in run.metrics and run.counts["trainable"] == factors
    folder = run_folder(cell.results_dir, cell.key)
    moved: dict[str, Any] = json.loads((folder / "similarity.json").read_text())
    assert cell.method.rank_limit() == 3 * rank
    assert len(moved) == layers and all(0 < found["rank"] <= 3 * rank for found in moved.values())
    assert without(run.config["method"], "by_task").keys().isdisjoint({"start_steps", "update_ratio", "learning_rate"})
    assert vars(cell.method.at_full_cost())["start_steps"] == 0 != config.method.start_steps

    lines = read_jsonl(folder / "predictions.jsonl")[:3]
    inputs = [line["input"] for line in lines]
    command = [sys.executable, ROOT / "scripts" / "generate.py", folder, *inputs]  # stock model, PEFT and adapter
    clean = {name: value for name, value in os.environ.items() if name != "WANDB_MODE"}  # which W&B mentions
    answered = subprocess.run(command, env=clean, capture_output=True, text=True, check=True).stdout.removesuffix("\n")
    assert answered.split("\n") == [line["prediction"] for line in lines]


def test_a_start_that_needs_data_is_refused_before_anything_is_written(
    own: Callable[..., DictConfig], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"init_lora_weights must be one of .*, got 'corda'"):
        run_cell(own("+method.start=corda"))
    assert not (tmp_path / "results").exists()
