"""The configurations hold what the paper prints in its Tables 9-13."""

from collections.abc import Callable
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from delta_lora import paper

PAPER = paper.hyperparameters()
MODELS = {"e2e": "gpt2-medium", "webnlg": "gpt2-medium", "xsum": "bart-large"}


def at_paper_scale(composed: Callable[..., DictConfig], task: str, method: str) -> dict[str, Any]:
    model = MODELS.get(task, "roberta-base")
    config = OmegaConf.to_container(
        composed("scale=paper", f"task={task}", f"model={model}", f"method={method}"), resolve=True
    )
    assert isinstance(config, dict)
    return config


@pytest.mark.parametrize("task", PAPER)
def test_a_task_has_the_papers_hyperparameters(composed: Callable[..., DictConfig], task: str) -> None:
    config = at_paper_scale(composed, task, "delta-lora")["task"]
    printed = PAPER[task]
    assert {name: config["train"][name] for name in printed["train"]} == printed["train"]
    assert printed.get("dropouts", config["train"]["dropouts"]) == config["train"]["dropouts"]
    assert {name: config["decode"][name] for name in printed.get("decode", {})} == printed.get("decode", {})
    assert config["max_train_examples"] is None
    assert config["max_test_examples"] is None


@pytest.mark.parametrize("task", PAPER)
def test_delta_lora_has_the_papers_hyperparameters(composed: Callable[..., DictConfig], task: str) -> None:
    method = at_paper_scale(composed, task, "delta-lora")["method"]
    printed = PAPER[task]
    assert {name: method[name] for name in ("rank", "alpha")} == printed["lora"]
    assert {name: method[name] for name in ("update_ratio", "start_steps")} == printed["delta_lora"]
    assert method["learning_rate"] == printed["train"]["learning_rate"]


@pytest.mark.parametrize("task", PAPER)
@pytest.mark.parametrize("method", ["lora", "dylora"])
def test_the_baselines_share_rank_alpha_and_learning_rate(
    composed: Callable[..., DictConfig], task: str, method: str
) -> None:
    config = at_paper_scale(composed, task, method)["method"]
    printed = PAPER[task]
    assert (config["rank"], config["alpha"]) == (printed["lora"]["rank"], printed["lora"]["alpha"])
    assert config["learning_rate"] == printed["train"]["learning_rate"]
