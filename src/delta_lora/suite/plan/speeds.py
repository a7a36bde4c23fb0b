"""How fast this machine is at a cell: as its own runs have recorded it, or as `timing.py` has timed it."""

import json
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

from omegaconf import OmegaConf

from delta_lora.errors import UserError
from delta_lora.files import write_whole
from delta_lora.methods.lookup import without
from delta_lora.suite.config.cell import Cell
from delta_lora.suite.config.key import canonical
from delta_lora.suite.machine.devices import device_name
from delta_lora.suite.records.phases import STARTED, TRAINED, finished_phase
from delta_lora.suite.records.records import made_runs

LEAST = 50  # steps: in fewer, starting up is part of what is timed


def training_work(config: Any) -> dict[str, Any]:
    """What decides how long a training step takes: runs that share it have the same rate on the same machine.

    Args:
        config: a composed configuration, resolved, as plain dictionaries (a record's ``config``).
    """
    task, train = config["task"], config["task"]["train"]
    work: dict[str, Any] = {
        "model": {name: config["model"][name] for name in ("name", "path", "revision", "target_modules")},
        "method": without(config["method"], "by_task"),
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


def work_key(work: Any) -> str:
    """16 hex digits, equal for equal work."""
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
        for run in made_runs(results_dir):
            if same_device(run.environment.get("device"), self.device):
                self.runs += 1
                self.note(run.config, finished_rate(run.train), run.train.get("decode_seconds"))
        for path in (results_dir / "runs").glob("*/config.yaml"):
            started = finished_phase(path.parent, STARTED)
            if started is not None and same_device(started.get("device"), self.device):
                config = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
                self.note(config, unfinished_rate(path.parent), None)

    def note(self, config: Any, rate: float | None, test_seconds: float | None) -> None:
        """Keep one run's numbers; those of a method that is no longer there are left out."""
        try:
            training, work = training_work(config), test_work(config)
        except UserError:
            return
        if rate:
            self.rates.setdefault(work_key(training), []).append(rate)
        if work is not None and test_seconds:
            self.tests.setdefault(work_key(work), []).append(test_seconds)

    def rate(self, cell: Cell) -> float | None:
        """Training examples per second: the median of the runs', else as timed, else None."""
        return self.look_up(self.rates, training_work(plain_config(cell)))

    def test_seconds(self, cell: Cell) -> float | None:
        """Seconds for the cell's test set after training: the median of the runs', else as timed, else None."""
        work = test_work(plain_config(cell))
        return 0.0 if work is None else self.look_up(self.tests, work)

    def look_up(self, found: dict[str, list[float]], work: Any) -> float | None:
        """From the runs, else from the file that :meth:`keep` wrote."""
        key = work_key(work)
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
        write_whole(self.file(work_key(work)), json.dumps(content, indent=1) + "\n")

    def file(self, key: str) -> Path:
        """One file for each device and work."""
        return self.folder / f"{work_key(self.device.split(',')[0])}-{key}.json"


def plain_config(cell: Cell) -> Any:
    """The configuration as plain dictionaries, as a record has it."""
    return OmegaConf.to_container(cell.config, resolve=True)


def same_device(recorded: Any, here: str) -> bool:
    """The same GPU model; on the CPU the number of threads may differ (cells at a time share the cores)."""
    return recorded == here or (str(recorded).startswith("CPU,") and here.startswith("CPU,"))


def finished_rate(train: dict[str, Any]) -> float | None:
    """Examples per second of a finished training; None where it was over before it was up to speed."""
    steps, resumed = train.get("steps"), train.get("resumed_from_step", 0)
    if not (isinstance(steps, int) and isinstance(resumed, int) and steps - resumed >= LEAST):
        return None
    return train.get("examples_per_second")


def unfinished_rate(folder: Path) -> float | None:
    """Examples per second that a run has noted so far, in its phases or its last checkpoint."""
    trained = finished_phase(folder, TRAINED)
    if trained is not None:
        return finished_rate(trained)
    try:
        states = sorted(
            folder.glob("checkpoints/checkpoint-*/trainer_state.json"), key=lambda path: path.stat().st_mtime
        )
        history = json.loads(states[-1].read_text(encoding="utf-8"))["log_history"] if states else []
    except (OSError, ValueError, KeyError):
        return None
    rates = [row["examples_per_second"] for row in history if "examples_per_second" in row]
    return median(rates) if rates and history[-1].get("step", 0) >= LEAST else None
