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
from delta_lora.suite.config.grid import compose_grid
from delta_lora.suite.config.init_from import START
from delta_lora.suite.config.key import start_key


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


RTE = ["task=glue/rte", "model=roberta-base", "scale.require_gpu=false"]
MNLI = ["task=glue/mnli", *RTE[1:]]


def leave_run(config: DictConfig, key: str | None = None) -> str:
    """A finished run as far as the search for a start looks at it, under its key or another one."""
    raw: Any = OmegaConf.to_container(config, resolve=True)
    found = build_cell(config).key if key is None else key
    folder = Path(config.results_dir) / "runs" / found
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"config": raw}))
    (folder / START).write_bytes(b"")
    return found


def test_paper_scale_starts_rte_from_the_mnli_run_of_the_same_method(composed: Callable[..., DictConfig]) -> None:
    config = composed(*RTE, "method=lora")
    with pytest.raises(UserError, match=r"python scripts/train.py task=glue/mnli model=roberta-base method=lora"):
        build_cell(config)
    leave_run(composed(*MNLI, "method=dylora"))
    leave_run(composed(*MNLI, "method=lora", "seed=2"))
    assert start_key(config) is None
    key = leave_run(composed(*MNLI, "method=lora"))
    assert start_key(config) == key
    fresh = build_cell(composed(*RTE, "method=lora", "task.init_from=null")).key
    started = build_cell(config).key
    assert started != fresh
    other = leave_run(composed(*MNLI, "method=lora", "task.max_train_examples=1000"))
    assert build_cell(config).key == started
    assert build_cell(composed(*RTE, "method=lora", f"task.init_from='{other}'")).key not in (fresh, started)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("task.max_train_examples=1000", r"task\.max_train_examples"),
        ("task.train.epochs=1", r"task\.train\.epochs"),
        ("task.split=dev", r"task\.split"),
        ("method.learning_rate=1", r"method\.learning_rate"),
        ("task.train={epochs: 1, max_steps: 9, decay: all, weight_decay: 0, max_length: 9}", r"task\.train\.\w+.*, …"),
        ("task.files.revision=old", "its data, the model's files or the version of the code"),
    ],
)
def test_no_run_of_other_settings_is_taken_for_the_start(
    composed: Callable[..., DictConfig], override: str, named: str
) -> None:
    key = leave_run(composed(*MNLI, "method=lora", override))
    config = composed(*RTE, "method=lora")
    assert start_key(config) is None
    with pytest.raises(UserError, match=rf"with its own settings \({key} differs in {named}\).*task.init_from=KEY"):
        build_cell(config)


def test_the_start_has_the_runs_own_model_and_method_and_the_rate_of_its_task(
    composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    """Also the weights that lie in a local folder when the run starts."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"1")
    given = ["method=controls/lora-scaled", f"model.path={tmp_path / 'model'}", "method.rank=2", "seed=7"]
    key = leave_run(composed(*MNLI, *given))
    assert start_key(composed(*RTE, *given)) == key
    assert start_key(composed(*RTE, *given, "method.learning_rate=0.1")) == key
    assert start_key(composed(*RTE, *given, "method.rank=3")) is None
    (tmp_path / "model" / "model.safetensors").write_bytes(b"2")
    assert start_key(composed(*RTE, *given)) is None
    with pytest.raises(UserError, match=r"differs in its data, the model's files.*method=controls/lora-scaled"):
        build_cell(composed(*RTE, *given))


def test_a_start_of_another_version_or_of_a_task_that_is_none_is_told(composed: Callable[..., DictConfig]) -> None:
    config = composed(*MNLI, "method=lora")
    key = leave_run(config)
    path = Path(config.results_dir) / "runs" / key / "run.json"
    path.write_text(path.read_text().replace('"label_smoothing"', '"smoothing"'))
    path.parent.rename(path.parents[1] / ("0" * 16))
    with pytest.raises(UserError, match=r"\(0{16} differs in settings of another version\)"):
        build_cell(composed(*RTE, "method=lora"))
    with pytest.raises(UserError, match=r"starts from the nowhere run of the same method, and there is none in"):
        build_cell(composed(*RTE, "method=lora", "task.init_from=nowhere"))


def test_table_4_finds_the_start_of_each_cell(composed: Callable[..., DictConfig]) -> None:
    """Within Hydra's own composing, where a grid's keys are made."""
    config = composed(*MNLI, "method=lora")
    leave_run(config)
    asked = ["table=table4", "scale=paper", "method=lora", "task=glue/rte", f"results_dir={config.results_dir}"]
    (cell,) = compose_grid(asked).cells
    assert cell.key == build_cell(composed(*RTE, "method=lora")).key


@pytest.mark.parametrize("task", ["mrpc", "stsb"])
def test_the_other_two_start_from_mnli_too_and_the_tiny_scale_does_not(
    task: str, composed: Callable[..., DictConfig]
) -> None:
    assert composed(f"task=glue/{task}", "model=roberta-base").task.init_from == "mnli"
    assert composed("task=glue/cola", "model=roberta-base").task.init_from is None
    assert composed(f"task=glue/{task}", "model=roberta-tiny", "scale=tiny").task.init_from is None
