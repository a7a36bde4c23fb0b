"""How fast this machine is at a cell: as its own runs have recorded it, or timed with a few steps (`make plan`)."""

import json
import math
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import CallbackHandler, DefaultFlowCallback

from delta_lora.errors import UserError
from delta_lora.methods.base import Method, ModelSpec, Schedule
from delta_lora.models.gpt2 import fuse_attention
from delta_lora.models.load import PUBLISHED, load_model, random_model
from delta_lora.suite.config.cell import Cell, canonical
from delta_lora.suite.config.init_from import BY_TASK
from delta_lora.suite.machine.devices import device_name
from delta_lora.suite.plan.prefetch import model_here
from delta_lora.suite.plan.sample import Sample
from delta_lora.suite.records.phases import STARTED, TRAINED, finished_phase
from delta_lora.suite.records.records import read_runs, write_text
from delta_lora.suite.run.decoding import decode

FROM_START = ("start_steps", "warmup_fraction")  # settings that put off what makes a method's step slower
WARM_UP, STEPS, BATCHES = 2, 8, 2  # optimizer steps before the timed ones, timed ones, timed batches of test inputs


def training_work(config: Any) -> dict[str, Any]:
    """What decides how long a training step takes: runs that share it have the same rate on the same machine.

    Args:
        config: a composed configuration, resolved, as plain dictionaries (a record's ``config``).
    """
    task, train = config["task"], config["task"]["train"]
    work: dict[str, Any] = {
        "model": {name: config["model"][name] for name in ("name", "path", "revision", "target_modules")},
        "method": {name: value for name, value in config["method"].items() if name not in BY_TASK},
        "task": {name: task.get(name) for name in ("name", "source", "sentences")},
        "train": {
            name: train.get(name)
            for name in ("batch_size", "micro_batch_size", "max_length", "max_target_length", "precision", "dropouts")
        },
    }
    if task.get("decode") is None:  # the scoring after every epoch is part of a classifier's rate
        work["limits"] = [task["max_train_examples"], task["max_test_examples"], task["evaluation_batch_size"]]
    return work


def test_work(config: Any) -> dict[str, Any] | None:
    """What decides how long the test inputs take after training; None where the rate has it (classification)."""
    task = config["task"]
    if task.get("decode") is None:
        return None
    work = training_work(config)
    limits = {"max_test_examples": task["max_test_examples"], "max_length": task["train"]["max_length"]}
    return {"model": work["model"], "task": work["task"], "decode": task["decode"], **limits}


def fingerprint(work: Any) -> str:
    """Equal for equal work."""
    return sha256(json.dumps(canonical(work), sort_keys=True).encode()).hexdigest()[:16]


class Speeds:
    """Measured on this machine's device: examples per second of a training, seconds of a test set.

    Args:
        results_dir: whose runs are looked at, finished and unfinished ones.
        cache_dir: where :func:`time_cell` keeps what it timed.
    """

    def __init__(self, results_dir: Path, cache_dir: Path) -> None:
        self.device = device_name()
        self.folder = cache_dir / "speeds"
        self.rates: dict[str, list[float]] = {}
        self.tests: dict[str, list[float]] = {}
        self.runs = 0
        for run in read_runs(results_dir):
            if same_device(run.environment.get("device"), self.device):
                self.runs += 1
                self.note(run.config, run.train.get("examples_per_second"), run.train.get("decode_seconds"))
        for path in (results_dir / "runs").glob("*/config.yaml"):
            started = finished_phase(path.parent, STARTED)
            if started is not None and same_device(started.get("device"), self.device):
                config = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
                self.note(config, unfinished_rate(path.parent), None)

    def note(self, config: Any, rate: float | None, test_seconds: float | None) -> None:
        """Keep one run's numbers."""
        if rate:
            self.rates.setdefault(fingerprint(training_work(config)), []).append(rate)
        work = test_work(config)
        if work is not None and test_seconds:
            self.tests.setdefault(fingerprint(work), []).append(test_seconds)

    def rate(self, cell: Cell) -> float | None:
        """Training examples per second: the median of the runs', else as timed, else None."""
        return self.look_up(self.rates, training_work(plain(cell.config)))

    def test_seconds(self, cell: Cell) -> float | None:
        """Seconds for the cell's test set after training: the median of the runs', else as timed, else None."""
        work = test_work(plain(cell.config))
        return 0.0 if work is None else self.look_up(self.tests, work)

    def look_up(self, found: dict[str, list[float]], work: Any) -> float | None:
        """From the runs, else from the file that :meth:`keep` wrote."""
        key = fingerprint(work)
        if key in found:
            return median(found[key])
        try:
            kept = json.loads(self.file(key).read_text(encoding="utf-8"))
            return float(kept["value"]) if same_device(kept["device"], self.device) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, work: Any, value: float) -> None:
        """Write what was timed, for later plans."""
        content = {"device": self.device, "value": value, "work": work}
        write_text(self.file(fingerprint(work)), json.dumps(content, indent=1) + "\n")

    def file(self, key: str) -> Path:
        """One file for each device and work."""
        return self.folder / f"{fingerprint(self.device.split(',')[0])}-{key}.json"


def plain(config: DictConfig) -> Any:
    """The configuration as plain dictionaries."""
    return OmegaConf.to_container(config, resolve=True)


def same_device(recorded: Any, here: str) -> bool:
    """The same GPU model; on the CPU the number of threads may differ (cells at a time share the cores)."""
    return recorded == here or (str(recorded).startswith("CPU,") and here.startswith("CPU,"))


def unfinished_rate(folder: Path) -> float | None:
    """Examples per second that a run has noted so far, in its phases or its last checkpoint."""
    trained = finished_phase(folder, TRAINED)
    if trained is not None:
        return trained.get("examples_per_second")
    try:
        states = sorted(
            folder.glob("checkpoints/checkpoint-*/trainer_state.json"), key=lambda path: path.stat().st_mtime
        )
        history = json.loads(states[-1].read_text(encoding="utf-8"))["log_history"] if states else []
    except (OSError, ValueError, KeyError):
        return None
    rates = [row["examples_per_second"] for row in history if "examples_per_second" in row]
    return median(rates) if rates else None


class Session:
    """One model under one method, trained step by step.

    Args:
        model: as loaded; it is moved to the device and prepared.
        method: not prepared yet.
        spec: of the model.
        schedule: of the run that it stands for.
        device: "cpu" or "cuda", there in bfloat16 where the GPU has it.
    """

    def __init__(
        self, model: PreTrainedModel, method: Method, spec: ModelSpec, schedule: Schedule, device: str
    ) -> None:
        self.device = torch.device(device)
        on_device: Any = model.to(self.device)  # type: ignore[arg-type]
        self.model = method.prepare(on_device, spec, schedule).train()
        trainable = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trainable, lr=1e-5, fused=True)
        scheduler = torch.optim.lr_scheduler.ConstantLR(self.optimizer, factor=1.0)
        self.arguments = TrainingArguments(tempfile.mkdtemp(), report_to="none", use_cpu=device == "cpu")
        self.state, self.control = TrainerState(), TrainerControl()
        callbacks = [DefaultFlowCallback, *method.callbacks()]
        self.events = CallbackHandler(callbacks, self.model, None, self.optimizer, scheduler)
        self.events.on_train_begin(self.arguments, self.state, self.control)

    def step(self, *micro_batches: dict[str, Tensor]) -> float:
        """One optimizer step as the Trainer does it, gradients summed over the micro-batches; in seconds."""
        self.wait()
        start = time.perf_counter()
        self.events.on_step_begin(self.arguments, self.state, self.control)
        for batch in micro_batches:
            on_device = {name: tensor.to(self.device) for name, tensor in batch.items()}
            with self.autocast():
                loss = self.model(**on_device).loss
            (loss / len(micro_batches)).backward()
        self.events.on_pre_optimizer_step(self.arguments, self.state, self.control)
        self.optimizer.step()
        self.events.on_optimizer_step(self.arguments, self.state, self.control)
        self.optimizer.zero_grad()
        self.wait()
        self.state.global_step += 1
        return time.perf_counter() - start

    def autocast(self) -> torch.autocast:
        """What the model computes in."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def wait(self) -> None:
        """Let the GPU finish."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def time_cell(cell: Cell, sample: Sample, speeds: Speeds) -> None:
    """Time a few optimizer steps of a cell, and some batches of its test inputs where nothing knows how long they take.

    The weights are random where the model's own are not here. An untrained model never ends a text, so a timed
    decoding, up to ``max_new_tokens`` each, is the longest that it can be. Delta-LoRA and AdaLoRA are timed as they
    are once they have started.

    Raises:
        UserError: the model is not here, and its size is not known.
    """
    config, kind = cell.config, cell.spec.kind
    method: Method = instantiate(config.method, **{name: 0 for name in FROM_START if name in config.method})
    torch.manual_seed(0)
    session = Session(model_for(cell), method, cell.spec, cell.schedule, "cuda" if torch.cuda.is_available() else "cpu")
    timed = [session.step(*micro) for micro in sample.steps(cell, session.model, WARM_UP + STEPS)][WARM_UP:]
    examples = cell.schedule.total_steps * config.task.train.batch_size
    seconds = examples * sum(timed) / len(timed) / config.task.train.batch_size
    if kind == "classification":
        seconds += math.ceil(examples / cell.task.train_size()) * classifying_seconds(session, sample, config)
    elif speeds.test_seconds(cell) is None:
        speeds.keep(test_work(plain(config)), decoding_seconds(cell, method.merge(), sample))
    speeds.keep(training_work(plain(config)), examples / seconds)


def classifying_seconds(session: Session, sample: Sample, config: DictConfig) -> float:
    """Seconds to predict the whole test set once."""
    chosen, count = sample.test_batches(config.task.evaluation_batch_size, BATCHES)
    collate: Any = DataCollatorWithPadding(sample.tokenizer)
    session.model.eval()
    session.wait()
    start = time.perf_counter()
    with torch.inference_mode(), session.autocast():
        for batch in chosen:
            session.model(**collate(batch).to(session.device)).logits.float().cpu()
    return (time.perf_counter() - start) / len(chosen) * count


def decoding_seconds(cell: Cell, model: PreTrainedModel, sample: Sample) -> float:
    """Seconds to decode the whole test set."""
    task = cell.config.task
    model = fuse_attention(model) if model.config.model_type == "gpt2" else model  # as a run decodes
    chosen, count = sample.test_batches(task.decode.batch_size, BATCHES)
    start = time.perf_counter()
    for batch in chosen:
        decode(model, sample.tokenizer, batch, task.decode, cell.spec.kind, task.train.max_length)
    return (time.perf_counter() - start) / len(chosen) * count


def model_for(cell: Cell) -> PreTrainedModel:
    """The cell's model without asking a network: as it is here, else with random weights.

    Raises:
        UserError: it is not here and is none of the paper's.
    """
    group, dropouts, settings = cell.config.model, cell.config.task.train.dropouts, cell.task.model_settings()
    if group.path is None or model_here(group):
        return load_model(group, cell.cache_dir, dropouts, **settings)
    if group.path in PUBLISHED:
        return random_model(group.kind, PUBLISHED[group.path](), **dropouts, **settings)
    raise UserError(f"model {group.name} is not here, and its size is not known; `make prefetch` gets it")
