"""Starting one task's run from another's (``task.init_from``): what is handed on, and which run is meant."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.method_models import SPECS, logits, model_for, stock_model, trainer_for
from helpers.methods_at_work import METHODS, STEPS
from omegaconf import DictConfig, OmegaConf
from peft import PeftModel
from torch import Tensor

from delta_lora.errors import UserError
from delta_lora.methods.base import Schedule
from delta_lora.suite.config.cell import build_cell
from delta_lora.suite.config.init_from import START, start_key


def hidden(model: Any) -> Tensor:
    """The last hidden states of a (wrapped) RoBERTa: what a new head would see."""
    model.eval()
    tokens = torch.arange(4, 16)[None]
    with torch.no_grad():
        return model(input_ids=tokens, output_hidden_states=True).hidden_states[-1]


@pytest.mark.parametrize("name", METHODS)
def test_the_next_task_starts_where_the_first_ended(name: str, tmp_path: Path) -> None:
    first, second = METHODS[name](), METHODS[name]()
    trainer_for(first, "roberta", tmp_path, STEPS).train()
    ended = hidden(first.model)
    first.save_start(tmp_path / START)
    prepared = second.prepare(model_for("roberta"), SPECS["roberta"], Schedule(STEPS, 0))
    assert not torch.allclose(hidden(prepared), ended, atol=1e-3), "the first run has learned nothing"
    second.load_start(tmp_path / START)
    torch.testing.assert_close(hidden(prepared), ended, atol=1e-5, rtol=1e-5)


def test_a_head_is_not_handed_on(tmp_path: Path) -> None:
    method = METHODS["lora"]()
    method.prepare(model_for("roberta"), SPECS["roberta"], Schedule(STEPS, 0))
    assert method.counts().head > 0
    assert sum(tensor.numel() for tensor in method.start_tensors().values()) == method.counts().trainable


@pytest.mark.parametrize("name", ["delta-lora", "literal"])
def test_a_chain_of_delta_lora_runs_exports_over_the_untouched_checkpoint(name: str, tmp_path: Path) -> None:
    """Two hops, so that what moved W in the first run goes on through the second."""
    chain = [METHODS[name]() for _ in range(3)]
    trainer_for(chain[0], "roberta", tmp_path / "0", STEPS).train()
    for hop in (1, 2):
        chain[hop - 1].save_start(tmp_path / f"{hop}" / START)
        trainer = trainer_for(chain[hop], "roberta", tmp_path / f"{hop}", STEPS)
        chain[hop].load_start(tmp_path / f"{hop}" / START)
        trainer.train()
    trained = logits(chain[2].model, "roberta")
    chain[2].export(tmp_path / "adapter")
    stock = PeftModel.from_pretrained(stock_model("roberta"), str(tmp_path / "adapter"))
    torch.testing.assert_close(logits(stock, "roberta"), trained, atol=5e-5, rtol=1e-4)


def test_a_start_of_another_method_is_refused(tmp_path: Path) -> None:
    lora, full = METHODS["lora"](), METHODS["full"]()
    lora.prepare(model_for("roberta"), SPECS["roberta"], Schedule(STEPS, 0))
    lora.save_start(tmp_path / START)
    full.prepare(model_for("roberta"), SPECS["roberta"], Schedule(STEPS, 0))
    with pytest.raises(UserError, match="does not fit method=full"):
        full.load_start(tmp_path / START)


def leave_run(config: DictConfig, key: str, **changes: Any) -> None:
    """A finished MNLI run as far as the search for a start looks at it."""
    raw: Any = OmegaConf.to_container(config, resolve=True)
    raw["task"]["name"] = "glue/mnli"
    raw["method"]["learning_rate"] = 5e-4
    folder = Path(config.results_dir) / "runs" / key
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"config": {**raw, **changes}}))
    (folder / START).write_bytes(b"")


RTE = ["task=glue/rte", "model=roberta-base", "scale.require_gpu=false"]


def test_paper_scale_starts_rte_from_the_mnli_run_of_the_same_method(composed: Callable[..., DictConfig]) -> None:
    config = composed(*RTE, "method=lora")
    with pytest.raises(UserError, match=r"python scripts/train.py task=glue/mnli model=roberta-base method=lora"):
        build_cell(config)
    leave_run(composed(*RTE, "method=dylora"), "0" * 16)
    leave_run(config, "1" * 16, seed=2)
    assert start_key(config) is None
    leave_run(config, "2" * 16)
    assert start_key(config) == "2" * 16
    fresh = build_cell(composed(*RTE, "method=lora", "task.init_from=null")).key
    assert build_cell(config).key != fresh
    leave_run(config, "3" * 16)
    with pytest.raises(UserError, match="2 finished runs fit"):
        build_cell(config)
    assert build_cell(composed(*RTE, "method=lora", "task.init_from='3333333333333333'")).key != fresh


@pytest.mark.parametrize("task", ["mrpc", "stsb"])
def test_the_other_two_start_from_mnli_too_and_the_tiny_scale_does_not(
    task: str, composed: Callable[..., DictConfig]
) -> None:
    assert composed(f"task=glue/{task}", "model=roberta-base").task.init_from == "mnli"
    assert composed("task=glue/cola", "model=roberta-base").task.init_from is None
    assert composed(f"task=glue/{task}", "model=roberta-tiny", "scale=tiny").task.init_from is None
