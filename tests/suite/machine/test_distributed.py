"""One run on two processes, by torchrun on the CPU: the numbers of one process, one record, the same end for all."""

import json
import os
import subprocess
import sys
import weakref
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ROOT
from helpers.distributed_runs import perform
from helpers.runs import SHORT
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoTokenizer, RobertaConfig, RobertaForMaskedLM

from delta_lora.suite.config.cell import build_cell
from delta_lora.suite.machine import ranks
from delta_lora.suite.records.records import Run, read_jsonl, read_runs

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("distributed")]  # all read the same few runs
# 97 examples in batches of 8: the last step of an epoch has one example, and the second process none.
STEPS = 26
PLAIN = {
    "full": ["method=full"],
    "lora": ["method=lora", "method.dropout=0"],
    "dylora": ["method=dylora", "method.dropout=0"],
    "adalora": ["method=adalora", "method.dropout=0"],
    "delta-lora": ["method=delta-lora"],
    "accumulated": ["method=delta-lora", "seed=2", "task.decode.search=transformers"],  # all texts differ
    "stsb": [
        "task=glue/stsb",
        "method=delta-lora",
        "task.init_from=null",
        "task.evaluation_batch_size=1",
        "method.learning_rate=0.005",
    ],
}
MICRO = {"accumulated": 1, "stsb": 2}  # of two processes; one takes the whole batch at once


@pytest.fixture(scope="module")
def roberta_checkpoint(gpt2_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RoBERTa with random weights (2 blocks, width 32) and the small GPT-2's tokenizer."""
    folder = tmp_path_factory.mktemp("roberta")
    tokenizer = AutoTokenizer.from_pretrained(gpt2_checkpoint)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    tokens = {"vocab_size": len(tokenizer), "bos_token_id": 0, "pad_token_id": 0, "eos_token_id": 0}
    RobertaForMaskedLM(RobertaConfig(**size, **tokens, type_vocab_size=1)).save_pretrained(folder)
    return folder


class Runs:
    """The same jobs alone, on two processes, and on two processes after interruptions."""

    def __init__(self, folder: Path, gpt2: Path, roberta: Path) -> None:
        self.folder, self.gpt2, self.roberta = folder, gpt2, roberta

    @cached_property
    def alone(self) -> None:
        for name, overrides in PLAIN.items():
            perform(self.job("alone", name, *overrides), self.made("alone"))

    @cached_property
    def interrupted(self) -> subprocess.CompletedProcess[str]:
        """One run that is told to stop, then one that is killed."""
        stopped = {**self.dropout("resumed", "delta-lora"), "terminate": [6, 1]}
        killed = {**self.dropout("resumed", "adalora"), "kill": [14, 0, 1]}
        return self.torchrun("interrupted", [stopped, killed])

    @cached_property
    def two(self) -> subprocess.CompletedProcess[str]:
        """Every job undisturbed; what was interrupted, resumed; at last one whose memory runs out."""
        assert self.interrupted
        jobs = [self.job("two", name, *self.micro(name), *overrides) for name, overrides in PLAIN.items()]
        jobs += [self.dropout(group, method) for group in ("two", "resumed") for method in ("delta-lora", "adalora")]
        jobs += [{**self.job("starved", "lora", *PLAIN["lora"]), "no_memory": [3, 1]}]
        return self.torchrun("two", jobs)

    def job(self, group: str, name: str, *overrides: str) -> dict[str, Any]:
        model = ["model.hidden_size=32", f"model.path={self.roberta if name == 'stsb' else self.gpt2}"]
        if name == "stsb":
            model += ["model=roberta-tiny"]
        short = [text for text in SHORT if name != "stsb" or not ("decode" in text or "warmup" in text)]
        model += [] if name == "stsb" else ["task.decode.batch_size=1"]
        more = [f"results_dir={self.folder / group}", "logger=none", "task.max_train_examples=97"]
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            config = compose("train", [*short, *more, *model, *overrides])
        return {"name": name, "config": OmegaConf.to_container(config, resolve=True), "echo": name == "accumulated"}

    def dropout(self, group: str, method: str) -> dict[str, Any]:
        """A run whose result depends on every process's random numbers."""
        return self.job(group, f"{method}-dropout", f"method={method}", "task.train.dropouts.hidden=0.1")

    @staticmethod
    def micro(name: str) -> list[str]:
        return [f"task.train.micro_batch_size={MICRO[name]}"] if name in MICRO else []

    def made(self, group: str) -> Path:
        folder = self.folder / f"notes-{group}"
        folder.mkdir(exist_ok=True)
        return folder

    def torchrun(self, group: str, jobs: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
        path = self.folder / f"{group}.json"
        path.write_text(json.dumps(jobs))
        return torchrun(ROOT / "tests" / "helpers" / "distributed_runs.py", path, self.made(group))

    def notes(self, group: str, name: str) -> list[dict[str, Any]]:
        """What each process has noted."""
        return [json.loads(path.read_text()) for path in sorted(self.made(group).glob(f"{name}.[0-9].json"))]

    def record(self, group: str, job: dict[str, Any]) -> Run:
        """The one record of a run."""
        key = build_cell(OmegaConf.create(job["config"])).key
        (run,) = [run for run in read_runs(self.folder / group) if run.key == key]
        return run


def torchrun(*command: str | Path) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}  # for the helpers
    return subprocess.run([*launcher, *map(str, command)], capture_output=True, text=True, cwd=ROOT, env=environment)


def told(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What the processes say of what went wrong: lines and tracebacks, without the traceback that is torchrun's own."""
    lines = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "Error", "Traceback"))]
    lines.remove("Traceback (most recent call last):")
    return lines


def losses(run: Run) -> list[float]:
    return [row["loss"] for row in read_jsonl(run.path / "log.jsonl") if "loss" in row]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, gpt2_checkpoint: Path, roberta_checkpoint: Path) -> Runs:
    return Runs(tmp_path_factory.mktemp("distributed"), gpt2_checkpoint, roberta_checkpoint)


@pytest.mark.parametrize("name", PLAIN)
def test_two_processes_give_the_numbers_of_one(runs: Runs, name: str) -> None:
    assert runs.alone is None and runs.two
    job = runs.job("any", name, *PLAIN[name])  # the number of processes and the micro-batch are no part of the key
    alone, two = runs.record("alone", job), runs.record("two", job)
    assert (alone.train["processes"], two.train["processes"]) == (1, 2)
    assert (alone.train["micro_batch_size"], two.train["micro_batch_size"]) == (8, MICRO.get(name, 4))
    assert alone.train["steps"] == two.train["steps"] == STEPS
    assert losses(two) == pytest.approx(losses(alone), rel=1e-5)
    first, half = losses(alone)[0], losses(alone)[len(losses(alone)) // 2 :]  # the last step has one example
    assert sum(half) / len(half) < first, "it learned nothing"
    assert two.counts == alone.counts and two.metrics == pytest.approx(alone.metrics, rel=1e-3)
    texts = [[row["prediction"] for row in run.predictions()] for run in (alone, two)]
    if name == "stsb":
        assert two.train["best_epoch"] == alone.train["best_epoch"]
        numbers = [[float(text) for text in found] for found in texts]
        assert numbers[1] == pytest.approx(numbers[0], rel=1e-4) and len(set(texts[0])) == 6
    else:
        assert texts[0] == texts[1] and any(texts[0])
        assert name != "accumulated" or len(set(texts[0])) == 6


@pytest.mark.parametrize("name", ["delta-lora", "accumulated", "stsb"])
def test_each_step_has_the_examples_that_one_process_has(runs: Runs, name: str) -> None:
    assert runs.alone is None and runs.two
    (alone,), two = runs.notes("alone", name), runs.notes("two", name)
    assert len(two) == 2 and len(alone["seen"]) == STEPS
    for step, examples in alone["seen"].items():
        shared = [note["seen"][step] for note in two]
        assert sorted([*shared[0], *shared[1]]) == sorted(examples), f"step {step}"
        assert abs(len(shared[0]) - len(shared[1])) <= 1, "unevenly shared"
    assert [len(examples) for examples in alone["seen"].values()] == ([8] * 12 + [1]) * 2


@pytest.mark.parametrize(("method", "start"), [("delta-lora", 7), ("adalora", 10)])
def test_stopped_and_killed_runs_end_bitwise_as_the_undisturbed_one(runs: Runs, method: str, start: int) -> None:
    assert runs.two
    job = runs.dropout("any", method)
    whole, resumed = runs.record("two", job), runs.record("resumed", job)
    assert (whole.train["resumed_from_step"], resumed.train["resumed_from_step"]) == (0, start)
    # a logged loss is a mean since the last log, and the checkpoint that a signal leads to is one more
    assert losses(resumed)[-3:] == losses(whole)[-3:]
    assert resumed.predictions() == whole.predictions()
    weights = [(run.path / "adapter" / "adapter_model.safetensors").read_bytes() for run in (whole, resumed)]
    assert weights[0] == weights[1]


def test_a_signal_to_one_process_stops_both_after_the_same_step(runs: Runs) -> None:
    assert runs.interrupted
    ends = [note["ended"] for note in runs.notes("interrupted", "delta-lora-dropout")]
    assert len(ends) == 2 and all("stopped by SIGTERM after step 7 of 26" in end for end in ends), ends


def test_memory_that_runs_out_in_one_process_ends_both_with_one_line(runs: Runs) -> None:
    (line,) = told(runs.two)
    assert "4 examples at once are too many for the memory; under torchrun" in line
    assert "give task.train.micro_batch_size=2, or less" in line


def test_no_wrapper_outlives_the_processes_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last owner of a gloo group destroys it, and a DistributedDataParallel does so while it holds the GIL."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    wrapped = DistributedDataParallel(torch.nn.Linear(2, 2))
    wrapped.cycle = wrapped  # as a trainer's callbacks and hooks make them
    alive = weakref.ref(wrapped)
    del wrapped
    assert alive() is not None
    destroy, left = distributed.destroy_process_group, []
    monkeypatch.setattr(distributed, "destroy_process_group", lambda: left.append(alive()) or destroy())
    ranks.stop()
    assert left == [None] and not distributed.is_initialized()


def test_a_batch_that_the_processes_cannot_share_is_one_line(tmp_path: Path, gpt2_checkpoint: Path) -> None:
    options = [*SHORT, f"model.path={gpt2_checkpoint}", f"results_dir={tmp_path / 'results'}", "logger=none"]
    done = torchrun(ROOT / "scripts" / "train.py", *options, "task.train.batch_size=7")
    (line,) = told(done)
    assert "task.train.batch_size=7" in line and "2 processes do not divide it" in line
    assert "exitcode  : 2" in done.stderr and not (tmp_path / "results").exists()
