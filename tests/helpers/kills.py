"""Runs in processes of their own that SIGKILL ends at seeded moments (tests/suite/run/test_kill.py)."""

import gc
import math
import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
from omegaconf import DictConfig, OmegaConf

from delta_lora.suite.records.records import Run, read_jsonl, read_run, run_folder

# One process imports everything once, and every run is forked from it; it never trains anything itself.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["helpers.kills", "delta_lora.suite.run.recipe", "delta_lora.tasks.e2e", "sacrebleu", "peft"]
)
FILES = ("open", "os.", "shutil.")  # of Python's audit events, those that touch the file system


def run_and_die(config: dict[str, Any], fatal: int | None, seen: Any) -> None:
    """Run a cell; the process kills itself right before its ``fatal``-th access to a file of the run, if any."""
    from delta_lora.suite.run.recipe import run_cell
    from helpers.runs import score_quickly

    gc.freeze()  # what was imported is the same for all, and collecting it would copy it into every process
    results = config["results_dir"]

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(FILES) and any(results in str(argument) for argument in arguments):
            seen.value += 1
            if seen.value == fatal:
                os.kill(os.getpid(), signal.SIGKILL)

    score_quickly()
    sys.addaudithook(audit)
    run_cell(OmegaConf.create(config))


def cpu_seconds(process: BaseProcess, most: float = math.inf) -> float:
    """Wait until a process has ended or used so much processor time; returns what it used, to some milliseconds."""
    used = 0.0
    try:
        while process.is_alive() and used < most:
            used = sum(psutil.Process(process.pid).cpu_times()[:2])
            process.join(0.005)
    except psutil.NoSuchProcess:  # it has ended; the server that forked it may have yet to say how
        process.join()
    return used


class Killer:
    """Kills one cell's process again and again.

    Args:
        config: the cell.
        folder: for the results of every attempt.
        seed: of the moments. Half of them are moments of (processor) time, half are accesses to the run's files, which
            hit the short windows in which something is half written.
    """

    def __init__(self, config: DictConfig, folder: Path, seed: int) -> None:
        self.config, self.folder, self.random = config, folder, random.Random(seed)
        self.kills = 0
        self.runs = 0
        process, seen = self.start(None)
        self.seconds = cpu_seconds(process)
        self.accesses = seen.value
        self.whole = self.finished(process)

    def start(self, fatal: int | None) -> tuple[BaseProcess, Any]:
        config: Any = OmegaConf.to_container(self.config, resolve=True)
        config["results_dir"] = str(self.folder / str(self.runs))
        seen = PROCESSES.Value("i", 0)
        process = PROCESSES.Process(target=run_and_die, args=(config, fatal, seen))
        process.start()
        return process, seen

    def finished(self, process: BaseProcess) -> Run:
        """The record of a process that was left alone; the next one starts from nothing."""
        assert process.exitcode == 0, f"the run failed by itself, with exit code {process.exitcode}"
        (folder,) = (self.folder / str(self.runs) / "runs").glob("[!.]*/")
        run = read_run(folder)
        assert run is not None and run_folder(self.folder / str(self.runs), run.key) == folder
        self.runs += 1
        return run

    def until(self, kills: int) -> Iterator[Run]:
        """Kill that often; every run that ends in spite of it, and at the end one that is left to end."""
        while self.kills < kills:
            by_time = self.random.random() < 0.5
            process, _ = self.start(None if by_time else self.random.randint(1, self.accesses))
            cpu_seconds(process, self.random.uniform(0, self.seconds) if by_time else math.inf)
            process.kill()
            process.join()
            if process.exitcode == -signal.SIGKILL:
                self.kills += 1
            else:
                yield self.finished(process)
        process, _ = self.start(None)
        process.join()
        yield self.finished(process)


def outcome(run: Run) -> dict[str, Any]:
    """What must be bit for bit the same: scores, texts, losses, and every file of numbers that the run leaves."""
    kept = [path for path in run.path.rglob("*") if path.suffix == ".safetensors" or path.name == "similarity.json"]
    assert not (run.path / "checkpoints").exists() and not (run.path / "phases.json").exists()
    return {
        "metrics": run.metrics,
        "counts": run.counts,
        "steps": run.train["steps"],
        "predictions": run.predictions(),
        "losses": [(row["step"], row["loss"]) for row in read_jsonl(run.path / "log.jsonl") if "loss" in row],
        "files": {path.name: path.read_bytes() for path in kept},
    }
