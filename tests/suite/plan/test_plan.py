"""`make plan`: what is done, what is left, from measured times alone, without a network."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import script
from omegaconf import DictConfig
from transformers import PreTrainedModel

from delta_lora.suite.cli import guard
from delta_lora.suite.config.cell import Cell, build_cell
from delta_lora.suite.plan import speeds, timing
from delta_lora.suite.plan.plan import Plan, compose_tables, make_plan, parameters, time_missing
from delta_lora.suite.plan.sample import draw_sample
from delta_lora.suite.run.recipe import run_cell
from delta_lora.suite.run.trainer import SuiteTrainer


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every connection that is tried; none comes about."""
    tried: list[Any] = []

    def refuse(_: socket.socket, address: Any) -> None:
        tried.append(address)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tried


@pytest.fixture
def overrides(gpt2_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The short runs of conftest, as a table's overrides."""
    from helpers.runs import SHORT

    monkeypatch.delenv("DELTA_LORA_DATA", raising=False)
    monkeypatch.setenv("DELTA_LORA_CACHE", str(tmp_path / "cache"))
    model = [f"model.path={gpt2_checkpoint}", "model.hidden_size=32"]
    return [*SHORT, *model, f"results_dir={tmp_path / 'results'}", "logger=none"]


def plan(*words: str, jobs: int = 1) -> Plan:
    tables = [[f"table={word}", *(o for o in words if "=" in o)] for word in words if "=" not in word]
    return make_plan(compose_tables(tables), jobs)


def state(found: Plan, table: str) -> dict[tuple[str, int], tuple[str, float | None]]:
    return {(p.label, p.cell.config.seed): (p.state, p.hours) for p in found.tables[table]}


def test_cells_that_stand_in_several_tables_count_once(asked: list[Any], tmp_path: Path) -> None:
    found = plan("table1", "table6", "figure3", "scale=paper", f"results_dir={tmp_path}", "data_dir=null", "seed=1,2")
    assert {name: len(cells) for name, cells in found.tables.items()} == {"table1": 14, "table6": 8, "figure3": 8}
    counted = {planned.cell.config.method.name: planned.counted for planned in found.tables["figure3"]}
    assert {name for name, table in counted.items() if table == "table1"} == {"lora", "delta-lora"}
    assert len(found.cells) == 14 + 4 + 4, "of Table 6 the higher rate is new; of Figure 3 ft-qv's rate, and LoRA's α"
    assert all(planned.hours is None for planned in found.cells), "nothing here has timed gpt2-medium"
    assert {planned.cell.schedule.total_steps for planned in found.cells} == {5 * 5258}  # ⌈42061 / 8⌉ × 5 epochs
    assert found.downloads == [("model gpt2-medium", False), ("data e2e", False)]
    assert not asked, "with HF_HUB_OFFLINE nobody is asked"


def test_a_hub_that_cannot_be_reached_stops_no_plan(
    asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    found = plan("table3", "scale=paper", "method=lora,full", f"results_dir={tmp_path}", "data_dir=null")
    assert asked == [("127.0.0.1", 9)], "asked once, not for each model and data set"
    assert found.downloads == [("model bart-large", False), ("data xsum", False)]


@pytest.mark.usefixtures("quick_scores")
def test_hours_are_those_that_this_machines_runs_have_recorded(
    short: Callable[..., DictConfig], overrides: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Done, interrupted at a checkpoint, timed by another seed's run, never timed."""
    monkeypatch.setattr(speeds, "LEAST", 4)
    run = run_cell(short("method=lora"))
    assert run is not None

    def stop(trainer: SuiteTrainer, *arguments: Any) -> Any:
        if trainer.state.global_step == 12:
            raise KeyboardInterrupt
        return step(trainer, *arguments)

    step = SuiteTrainer.training_step
    monkeypatch.setattr(SuiteTrainer, "training_step", stop)
    with pytest.raises(KeyboardInterrupt):
        run_cell(short("method=delta-lora"))

    found = plan("figure3", "seed=1,2", *overrides)
    rate, decoding = run.train["examples_per_second"], run.train["decode_seconds"]
    assert state(found, "figure3")["lora", 1] == ("done", 0)
    assert state(found, "figure3")["lora", 2] == ("to do", pytest.approx((24 * 8 / rate + decoding) / 3600))
    assert state(found, "figure3")["ft-qv", 1] == ("to do", None)
    history = json.loads(
        next((tmp_path / "results").glob("runs/*/checkpoints/checkpoint-10/trainer_state.json")).read_text()
    )
    noted = np.median([row["examples_per_second"] for row in history["log_history"]])
    left = pytest.approx(((24 - 10) * 8 / noted + decoding) / 3600)
    assert state(found, "figure3")["delta-lora", 1] == ("started", left)
    assert next(planned.step for planned in found.cells if planned.state == "started") == 10

    for path in (tmp_path / "results").glob("runs/*/run.json"):  # the same records, of another machine
        path.write_text(path.read_text().replace('"device": "CPU', '"device": "NVIDIA'))
    assert state(plan("figure3", "seed=1,2", *overrides), "figure3")["lora", 2] == ("to do", None)


def test_a_run_of_a_few_steps_says_nothing_of_hours() -> None:
    """One step at 22.6 examples/s, most of it starting up, once made LoRA's 110 into 66."""
    assert speeds.finished_rate({"steps": 1, "examples_per_second": 22.6}) is None
    assert speeds.finished_rate({"steps": 900, "resumed_from_step": 880, "examples_per_second": 22.6}) is None
    assert speeds.finished_rate({"steps": 50, "resumed_from_step": 0, "examples_per_second": 110.0}) == 110.0


def test_what_nothing_has_timed_is_timed_on_request_and_kept(overrides: list[str], asked: list[Any]) -> None:
    tables = compose_tables([["table=figure3", "method=lora,delta-lora", *overrides]])
    assert [cell.hours for cell in make_plan(tables, 1).cells] == [None, None]
    said = list(time_missing(tables))
    assert len(said) == 2 and all("examples/s on CPU" in line for line in said)
    (first, second) = make_plan(tables, 1).cells
    assert first.hours and second.hours and first.examples_per_second
    assert first.hours * 3600 > 24 * 8 / first.examples_per_second, "and decoding"
    assert list(time_missing(tables)) == [], "it is kept"
    assert not asked


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_timed_step_computes_as_the_run_will(
    precision: str,
    dtype: torch.dtype,
    short: Callable[..., DictConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the run's precision, with logits at targets alone; and then it decodes in float32 as before."""
    seen: list[tuple[int, torch.dtype, torch.dtype]] = []

    def watched(cell: Cell) -> PreTrainedModel:
        model = load(cell)
        inner: Any = model.base_model
        model.get_output_embeddings().register_forward_hook(
            lambda _, inputs, output: seen.append((len(inputs[0]), output.dtype, inner.h[0].mlp.c_fc.weight.dtype))
        )
        return model

    load = timing.model_for
    monkeypatch.setattr(timing, "model_for", watched)
    cell = build_cell(short("method=lora", f"task.train.precision={precision}"))
    timing.time_cell(cell, draw_sample(cell), speeds.Speeds(tmp_path, tmp_path))
    steps = timing.WARM_UP + timing.STEPS
    assert seen[:steps] == [(1, dtype, dtype)] * steps
    assert {row[1:] for row in seen[steps:]} == {(torch.float32, torch.float32)}


@pytest.mark.parametrize(
    ("task", "model", "tokens"),
    [("e2e", "gpt2-medium", 55), ("xsum", "bart-large", 385), ("glue/rte", "roberta-base", 71)],
)
def test_without_the_data_batches_have_the_tasks_lengths(
    composed: Callable[..., DictConfig], tmp_path: Path, task: str, model: str, tokens: int
) -> None:
    """The real data's means with GPT-2's tokenizer; XSum's after the cut at 768."""
    config = composed(f"task={task}", f"model={model}", "method=lora", f"cache_dir={tmp_path}")
    sample = draw_sample(build_cell(config, to_run=False))
    assert np.mean([len(example["input_ids"]) for example in sample.examples]) == pytest.approx(tokens, rel=0.05)
    assert len(sample.inputs) == config.task.test_examples


@pytest.mark.parametrize(
    ("task", "model", "method", "trained", "kept"),
    [
        ("e2e", "gpt2-medium", "lora", 393_216, 393_216),
        ("e2e", "gpt2-medium", "delta-lora", 393_216, 2 * 393_216),
        ("glue/rte", "roberta-base", "lora", 294_912 + 592_130, 294_912 + 592_130),
        ("e2e", "gpt2-medium", "full", 354_823_168, 0),
    ],
)
def test_the_disk_holds_what_is_trained_three_times_in_three_checkpoints(
    composed: Callable[..., DictConfig], tmp_path: Path, task: str, model: str, method: str, trained: int, kept: int
) -> None:
    cell = build_cell(composed(f"task={task}", f"model={model}", f"method={method}"), to_run=False)
    assert parameters(cell) == (trained, kept)


def test_the_plan_as_it_is_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["table6", "table1", "scale=paper", f"results_dir={tmp_path}", "data_dir=null", "jobs=2"]
    assert guard(lambda: script("plan").main(words)) == 0
    printed = capsys.readouterr().out
    assert "9 cells (2 more are shared): 0 done, 9 to run" in printed
    assert "time: – hours on the CPU; 9 of the 9 cells are not in it" in printed or "GPU-hours" in printed
    assert "download: model gpt2-medium: not here (size not asked: no connection)" in printed
    trained = 354_823_168 + 354_823_168 - 1_048_576 - 50257 * 1024  # the two largest: full, ft-frozen-emb
    assert f"disk: {9 * 4 * trained / 1e9:.2f} GB for checkpoints (2 at a time), " in printed


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["table9"],
            "table=table9 is not a choice; choose one of controls-glue, controls-low-rate, controls, figure3, table1",
        ),
        (["table1", "jobs=0"], "jobs must be a whole number ≥ 1, got 0"),
        (["table1", "measure=yes"], "measure must be true or false, got yes"),
        (["table1", "scale=tiny", "seed=-1"], "seed must be a whole number ≥ 0 (and < 2^32), got -1"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert guard(lambda: script("plan").main(words)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {says}") and len(error.splitlines()) == 1
