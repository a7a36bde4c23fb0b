"""Training beside PEFT and loralib: in turn, on the same rows, each as its documentation or its authors have it."""

import csv
import itertools
import json
import os
import shutil
import threading
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import script
from helpers.models import gpt2_config, llama_config
from transformers import AutoTokenizer, GPT2LMHeadModel, LlamaForCausalLM, PreTrainedModel

from delta_lora.errors import RunError, UserError
from delta_lora.suite.bench import gate, peers
from delta_lora.suite.bench.gate import Gate, Side, Step, race
from delta_lora.suite.bench.original_training import masked_loss, padded, train_as_the_original, with_loralib
from delta_lora.suite.bench.peer_sides import PeerCase
from delta_lora.tasks.e2e import E2E
from delta_lora.tasks.generation import IGNORED


@pytest.fixture(scope="module")
def checkpoint(gpt2_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small GPT-2 with room for 512 tokens."""
    folder = tmp_path_factory.mktemp("gpt2-512")
    shutil.copytree(gpt2_checkpoint, folder, dirs_exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    sizes = {"vocab_size": len(tokenizer), "n_positions": 512, "n_head": 2}
    GPT2LMHeadModel(gpt2_config(**sizes, bos_token_id=0, eos_token_id=0, pad_token_id=None)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """E2E's training file with 40 rows of different lengths."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "e2e").mkdir()
    rows = [("name[The Vaults], eatType[pub]", f"The Vaults is a {'very ' * (i % 8)}nice pub.") for i in range(40)]
    for name in ("trainset.csv", "devset.csv", "testset_w_refs.csv"):
        with (folder / "e2e" / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("mr", "ref"), *rows])
    return folder


@pytest.fixture
def bench() -> ModuleType:
    return script("bench")


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sides are threads of this process, which start at once, one after the other (Hydra composes one at a time)."""
    ends: list[Connection] = []

    def pipe() -> tuple[Connection, Connection]:
        ours, theirs = Pipe()
        ends.append(ours)
        return ours, theirs

    class Process(threading.Thread):
        exitcode = -9

        def __init__(self, target: Callable[..., None], args: tuple[Any, ...], daemon: bool) -> None:
            training, theirs, *rest = args
            own = Connection(os.dup(theirs.fileno()))  # as a process has it, which the parent's does not close
            super().__init__(target=target, args=(training, own, *rest), daemon=daemon)

        def start(self) -> None:
            super().start()
            while self.is_alive() and not ends[-1].poll(0.01):
                pass

        def kill(self) -> None:
            assert not self.is_alive()

    monkeypatch.setattr(gate.multiprocessing, "get_context", lambda how: SimpleNamespace(Pipe=pipe, Process=Process))


@pytest.mark.parametrize("sides", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_trainings_step_in_turn_over_the_same_rows_and_the_page_has_their_costs(
    sides: str,
    bench: ModuleType,
    checkpoint: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    if sides == "threads":
        request.getfixturevalue("threads")
    done: dict[str, list[Step]] = {}

    def seen(*arguments: Any) -> dict[str, list[Step]]:
        done.update(race(*arguments))
        return done

    monkeypatch.setattr(peers, "race", seen)
    monkeypatch.setattr(peers, "has_bf16", lambda: False)
    monkeypatch.setattr(E2E, "check_local", lambda self, folder: None)  # these are not the released rows
    options = ["--peers", "--model", str(checkpoint), "--data", str(data), "--steps", "2"]
    bench.main([*options, "--output", str(tmp_path)])
    turns = sorted((step.began, step.ended, name) for name, steps in done.items() for step in steps)
    assert [name for *_, name in turns] == [peers.GROUPED, peers.RANDOM, peers.PEFT, peers.LORALIB] * 2
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(turns))
    record = json.loads((tmp_path / "peers-cpu.json").read_text())
    (row,) = record["rows"]
    assert row["model"] == f"{checkpoint.name}, E2E" and record["environment"]["loralib"]
    cost = row["fp32"]
    for name, steps in done.items():
        seconds, tokens = (sum(getattr(step, field) for step in steps) for field in ("seconds", "tokens"))
        mean = seconds / tokens * 8 * cost[name]["epoch_tokens"]
        assert cost[name]["seconds"] == pytest.approx(mean) and 0 < mean < 60
        assert sum(cost[name]["step_tokens"]) == pytest.approx(tokens / 8)
        times, low, high = cost[name]["ratio"]
        assert low <= times <= high and times == pytest.approx(mean / cost[peers.GROUPED]["seconds"])
    assert cost[peers.LORALIB]["step_tokens"] == [512, 512] and cost[peers.LORALIB]["epoch_tokens"] == 512
    assert row["tokens"] < cost[peers.GROUPED]["epoch_tokens"] <= cost[peers.PEFT]["epoch_tokens"] < 100
    page = (tmp_path / "peers-cpu.md").read_text()
    assert page.count(f"| {checkpoint.name}, E2E |") == 4 and "| fp32 | loralib, 512 tokens | 2 | 512 | 512 |" in page


class Paced:
    """A side that writes down when it steps."""

    def __init__(self, name: str, order: list[str]) -> None:
        self.name, self.order, self.waiting = name, order, False

    def ready(self) -> None:
        assert not self.waiting
        self.waiting = True

    def step(self) -> Step:
        assert self.waiting
        self.waiting = False
        self.order.append(self.name)
        return Step(len(self.order), 0.0, 0.0, 0)


def test_a_side_with_fewer_steps_takes_part_evenly_and_no_first_step_counts() -> None:
    order: list[str] = []
    sides: Any = {name: Paced(name, order) for name in "ABC"}
    done = race(sides, {"A": 6, "B": 6, "C": 2})
    assert "".join(order) == "ABC" + "ABABABCABABABC"
    assert [step.seconds for step in done["C"]] == [10, 17] and len(done["A"]) == len(done["B"]) == 6
    assert not any(side.waiting for side in sides.values())


@pytest.mark.usefixtures("threads")
def test_a_step_costs_what_is_done_between_the_gates() -> None:
    def training(gate: Gate, counts: list[int]) -> None:
        for count in counts:
            gate.wait()
            for _ in range(count):
                torch.ones(200, 200) @ torch.ones(200, 200)
            gate.passed()

    side = Side("a training", training, "cpu", [1, 400])
    steps = []
    for _ in range(2):
        side.ready()
        steps.append(side.step())
    side.end()
    assert steps[1].seconds > 5 * steps[0].seconds > 0 and steps[0].ended < steps[1].began


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    ("failure", "kind", "message"),
    [
        (UserError("no such model; give another"), UserError, "no such model; give another"),
        (ValueError("of two\nlines"), RunError, "ValueError: of two lines"),
        (None, RunError, "a training ended before its last step"),
    ],
)
def test_a_training_that_fails_says_why_in_one_line(
    failure: Exception | None, kind: type[Exception], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def training(gate: Gate) -> None:
        if failure is not None:
            raise failure

    side = Side("a training", training, "cpu")
    with pytest.raises(kind, match=message) as caught:
        side.ready()
    side.end()
    assert "\n" not in str(caught.value)


ROW = {"input_ids": [5, 9, 1, 7, 8, 6, 1], "labels": [IGNORED, IGNORED, IGNORED, 7, 8, 6, 1]}
MODELS: list[tuple[Callable[[], PreTrainedModel], int]] = [  # and its adapted layers in a block
    (lambda: GPT2LMHeadModel._from_config(gpt2_config(n_positions=512), attn_implementation="eager"), 1),
    (lambda: LlamaForCausalLM._from_config(llama_config(max_position_embeddings=512), attn_implementation="eager"), 2),
]


@pytest.mark.parametrize(("make", "projections"), MODELS, ids=["gpt2", "llama"])
def test_with_loralib_a_model_starts_where_it_was_and_learns_by_its_factors_alone(
    make: Callable[[], PreTrainedModel], projections: int
) -> None:
    torch.manual_seed(0)
    model = make().eval()
    plain = model(input_ids=torch.tensor([ROW["input_ids"]]), labels=torch.tensor([ROW["labels"]])).loss
    with_loralib(model, r=2, lora_alpha=4, lora_dropout=0.0)
    assert plain.item() == pytest.approx(masked_loss(model, *(part[None] for part in padded(ROW))).item(), rel=1e-4)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    connection: Any = SimpleNamespace(sent=[], recv=lambda: None)
    connection.send = connection.sent.append
    train_as_the_original(Gate(connection, "cpu"), model, [ROW] * 8, 2, 2)  # type: ignore[arg-type]
    steps = [said for said in connection.sent if said is not None]
    assert [step.tokens for step in steps] == [2 * 2 * 512] * 2
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {name for name in before if "lora_" in name} and len(changed) == 2 * 2 * projections


def test_without_data_rows_are_as_long_as_the_committed_deciles_say(checkpoint: Path) -> None:
    case = PeerCase(str(checkpoint), "cpu", "fp32", 2, 2)
    rows = peers.read_rows(case, None)
    prompts = [row["labels"].count(IGNORED) - 1 for row in rows]
    targets = [len(row["labels"]) - row["labels"].count(IGNORED) - 1 for row in rows]
    deciles = peers.e2e_cell(case).config.task.lengths
    for found, stated in ((prompts, deciles.input), (targets, deciles.target)):
        assert len(found) == 42_061 and np.abs(np.percentile(found, range(0, 101, 10)) - list(stated)).max() <= 1
    chosen = peers.like_all(rows, 96)
    lengths = [[len(row["input_ids"]) for row in some] for some in (rows, chosen)]
    assert abs(np.mean(lengths[0]) - np.mean(lengths[1])) < 0.5 and lengths[1] != sorted(lengths[1])


def test_a_cost_is_that_of_an_epoch_and_its_interval_holds_the_ratio_that_is_there() -> None:
    """One side has met long batches, the other short ones; a token of the one costs three times as much."""
    random = np.random.default_rng(1)

    def steps(seconds: float, tokens: int) -> list[Step]:
        lengths = random.integers(tokens // 2, tokens, 50).tolist()
        return [Step(seconds * n * random.normal(1, 0.05), 0, 0, n) for n in lengths]

    slow, fast = peers.Cost(steps(3e-3, 2000), 8, 80.0), peers.Cost(steps(1e-3, 500), 8, 60.0)
    assert slow.mean() == pytest.approx(3e-3 * 8 * 80, rel=0.03)
    times, low, high = slow.over(fast)
    assert 3.8 < low < times < high < 4.2 and low < 4.0 < high


def test_batches_by_length_have_fewer_padded_tokens_in_an_epoch() -> None:
    """docs: 57 against 77 of E2E's. The rows are enough for the groups that our batches are made from."""
    case = PeerCase("smollm2-135m", "cpu", "fp32", 2, 2)
    rows = peers.like_all(peers.read_rows(case, None), peers.ROWS)
    assert len(rows) == 3200
    assert peers.epoch_tokens(case, rows, True) < 60 and 74 < peers.epoch_tokens(case, rows, False) < 80


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "no-such-folder"], "no-such-folder: give gpt2-medium, smollm2-135m or the folder"),
        (["--model", "smollm2-135m", "--data", "no-such-folder"], "no e2e/trainset.csv in --data no-such-folder"),
        (["--batch-size", "2"], "leave --batch-size out"),
        (["--steps", "0"], "must be at least 1"),
        (["--model", "SHORT"], "has room for 256 tokens"),
        (["--model", "ENCODER"], "is a roberta model; give one of gpt2, llama"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(
    options: list[str],
    message: str,
    bench: ModuleType,
    gpt2_checkpoint: Path,
    roberta_checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folders = {"SHORT": str(gpt2_checkpoint), "ENCODER": str(roberta_checkpoint)}
    with pytest.raises(SystemExit) as stopped:
        bench.main(["--peers", *(folders.get(option, option) for option in options)])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
