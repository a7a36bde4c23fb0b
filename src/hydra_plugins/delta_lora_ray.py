"""Hydra's launcher for Ray: a sweep's cells as tasks of a Ray on this machine, or of a running cluster.

Hydra finds launchers in the package ``hydra_plugins`` alone. The published one, hydra-ray-launcher 1.2.2, cannot be
installed beside joblib ≥ 1.6 (it asks for cloudpickle < 3, joblib for ≥ 3), and has no limit on cells at a time.
"""

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from delta_lora.errors import UserError
from delta_lora.places import place
from delta_lora.suite.sweep import write_failure

SENT = ("DELTA_LORA_", "HF_", "WANDB_", "OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM", "PYTHONPATH")
SECRET = ("TOKEN", "KEY")  # who can see a cluster can see what its jobs are sent
OBJECT_STORE_BYTES = 100 * 2**20  # cells pass files, not objects; Ray would reserve 30 % of the memory


class RayLauncher(Launcher):
    """Runs the cells of a sweep on Ray; configs/hydra/launcher/ray.yaml describes the arguments."""

    def __init__(
        self, n_jobs: int, cpus_per_cell: float, gpus_per_cell: float | None, address: str, max_retries: int
    ) -> None:
        self.n_jobs = n_jobs
        self.cpus = cpus_per_cell
        self.gpus = gpus_per_cell
        self.address = address
        self.max_retries = max_retries

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's call before :meth:`launch`."""
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run all cells, ``n_jobs`` at a time, and return Hydra's record of each, in their order.

        A cell whose worker died is started again; after ``max_retries`` more deaths it is noted as failed, and the
        others go on. Ctrl-C reaches the cells at work, which write a checkpoint.

        Raises:
            UserError: Ray is not installed or not there, or a setting is out of its range.
        """
        self.check()
        # Read by Ray when it is imported and when it starts: no usage statistics, every line of every cell.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_DEDUP_LOGS", "0")
        try:
            import ray
        except ModuleNotFoundError:
            raise UserError("hydra/launcher=ray needs Ray, which is not installed; pip install -e .[ray]") from None
        setup_globals()
        sweep_dir = place("hydra.sweep.dir", self.config.hydra.sweep.dir)
        sweep_dir.mkdir(parents=True, exist_ok=True)
        self.connect()
        task = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus_of_a_cell(), max_retries=self.max_retries)(cell)
        shared = (self.hydra_context, self.config, self.task_function, Singleton.get_state())
        waiting = list(enumerate(job_overrides, start=initial_job_idx))
        overrides = dict(waiting)
        running: dict[Any, int] = {}
        results: dict[int, JobReturn] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.n_jobs:
                    number, words = waiting.pop(0)
                    running[task.remote(Path.cwd(), number, list(words), *shared)] = number
                (done, *_), _ = ray.wait(list(running), num_returns=1)
                number = running.pop(done)
                try:
                    results[number] = ray.get(done)
                except ray.exceptions.RayError as error:
                    write_failure(sweep_dir, number, overrides[number], reason(error), mistake=False)
                    results[number] = JobReturn(overrides=overrides[number], status=JobStatus.COMPLETED)
        except KeyboardInterrupt:
            for reference in running:
                ray.cancel(reference)
            ray.wait(list(running), num_returns=len(running))
            raise
        finally:
            time.sleep(1)  # what the last cells printed is on its way here
            ray.shutdown()
        return [results[number] for number in sorted(results)]

    def check(self) -> None:
        """The settings, each in its range."""
        for name, count, least in (("n_jobs", self.n_jobs, 1), ("max_retries", self.max_retries, 0)):
            if isinstance(count, bool) or not isinstance(count, int) or count < least:
                raise UserError(f"hydra.launcher.{name} must be a whole number ≥ {least}, got {count}")
        for name, value in (("cpus_per_cell", self.cpus), ("gpus_per_cell", 0 if self.gpus is None else self.gpus)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise UserError(f"hydra.launcher.{name} must be a number ≥ 0, got {value}")

    def connect(self) -> None:
        """Start a Ray on this machine, or join the cluster at ``address``."""
        import ray

        own: dict[str, Any] = {}
        if self.address == "local":
            own = {"num_cpus": max(1, round(self.n_jobs * self.cpus)), "object_store_memory": OBJECT_STORE_BYTES}
            own["include_dashboard"] = False
        environment = {"env_vars": sent_environment()}
        try:
            ray.init(address=self.address, runtime_env=environment, logging_level=logging.ERROR, **own)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"hydra.launcher.address={self.address}: {str(error).splitlines()[0]} (local: a Ray of its own; auto: "
                "this machine's cluster; HOST:6379: another)"
            ) from None

    def gpus_of_a_cell(self) -> float:
        """``gpus_per_cell``; where it is null: one, if the scale needs a GPU or there is any, otherwise none."""
        import ray

        there = ray.cluster_resources().get("GPU", 0)
        wanted = self.gpus if self.gpus is not None else int(self.config.scale.require_gpu or there > 0)
        if self.address == "local" and wanted > there:  # a cluster may start a machine that has them
            ray.shutdown()
            raise UserError(f"hydra.launcher.gpus_per_cell={wanted:g}, and Ray finds {there:g} GPUs on this machine")
        return wanted


def cell(folder: Path, number: int, overrides: list[str], *shared: Any) -> JobReturn:
    """In a worker: the cell, in the folder in which the sweep was started, so that relative paths mean the same."""
    from hydra_plugins.hydra_joblib_launcher._core import execute_job

    os.chdir(folder)
    return execute_job(number, overrides, *shared)


def sent_environment() -> dict[str, str]:
    """The variables that a cell depends on; workers of a running cluster have those of ``ray start``."""
    return {name: value for name, value in os.environ.items() if name.startswith(SENT) and not name.endswith(SECRET)}


def reason(error: Exception) -> str:
    """Ray's error on one line: what was raised in the worker, or what happened to it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    name = type(error).__name__
    return lines[-1] if name.startswith("RayTaskError") else f"{name}: {lines[0]}"
