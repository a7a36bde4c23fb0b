"""A sweep (``-m``): a failing cell does not stop the others; at the end the failures are listed."""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, read_write

from delta_lora.errors import RunError, UserError
from delta_lora.files import write_whole
from delta_lora.places import place
from delta_lora.suite.config.compose import check_table

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # joblib's jobs inherit them


class SweepCallback(Callback):
    """Tells the process that started a sweep in which folder its jobs note their failures."""

    folder: ClassVar[Path | None] = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Stop where no cell could run; keep the sweep's folder, whose name has a time in it."""
        from delta_lora.suite.config.settings import check_device

        if "LOCAL_RANK" in os.environ:
            from delta_lora.suite.machine import ranks  # imports torch, which a sweep leaves to its jobs

            if ranks.count() > 1:
                code = ranks.fail(
                    "error: torchrun is for one run; start a sweep (-m) without it, with JOBS= or a launcher", 2
                )
                raise SystemExit(code)
        try:
            if str(config.hydra.sweep.dir).startswith("~"):
                raise UserError(
                    f"hydra.sweep.dir={config.hydra.sweep.dir}: Hydra takes ~ for the name of a folder; write it out"
                )
            check_table(config, config.hydra.runtime.choices.get("table"))
            launcher = config.hydra.launcher
            elsewhere = "submitit" in launcher._target_ or launcher.get("address", "local") != "local"
            if launcher._target_.endswith("SlurmLauncher") and shutil.which("sbatch") is None:
                raise UserError(
                    "hydra/launcher=slurm needs Slurm's commands, and there is no sbatch here; run it on a login node, "
                    "or take hydra/launcher=joblib"
                )
            if launcher._target_.endswith("JoblibLauncher") and (launcher.n_jobs or 1) > (cores := usable_cores()):
                given = f"hydra.launcher.n_jobs={launcher.n_jobs} (JOBS)"
                print(f"{given} is more than the {cores} cores here: {cores} at a time", file=sys.stderr)
                with read_write(config):
                    launcher.n_jobs = cores
            if launcher._target_.endswith("JoblibLauncher"):
                jobs = launcher.n_jobs or 1
                cap_threads(usable_cores() // (jobs if jobs > 0 else usable_cores()))
            if not elsewhere:  # a login node need not have what its jobs need
                check_device(config)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from None  # Hydra turns other exceptions of a callback into warnings
        SweepCallback.folder = place("hydra.sweep.dir", config.hydra.sweep.dir)


def cap_threads(most: int) -> None:
    """Leave each job no more threads than its share of the cores, whatever the environment has: they only wait."""
    for name in THREADS:
        if (given := os.environ.get(name, "")).isdecimal() and int(given) > most:
            print(f"{name}={given} is more than a job's share of the cores here: {most} for each", file=sys.stderr)
            os.environ[name] = str(most)


def usable_cores() -> int:
    """The processor's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def queue_error(error: RuntimeError) -> UserError | RunError | None:
    """What submitit raises where Slurm does not take a job, or loses one, in one line; None for other errors."""
    if type(error).__module__ != "submitit.core.utils":  # an extra: not imported where it is not used
        return None
    line = str(error).strip().splitlines()[0]
    if line.startswith("sbatch: "):
        return UserError(
            f"Slurm does not take the jobs ({line}); see the settings in configs/hydra/launcher/slurm.yaml"
        )
    return RunError(f"{line}; the same command runs only what is missing")


def note_failure(message: str, mistake: bool) -> None:
    """Leave this job's overrides and error in the sweep's folder."""
    hydra = HydraConfig.get()
    write_failure(place("hydra.sweep.dir", hydra.sweep.dir), hydra.job.num, hydra.overrides.task, message, mistake)


def write_failure(folder: Path, number: int, overrides: Sequence[str], message: str, mistake: bool) -> None:
    """Leave a failed job's overrides and error in the sweep's folder."""
    failure = {"overrides": " ".join(overrides), "error": message, "mistake": mistake}
    write_whole(folder / f"failed-{number}.json", json.dumps(failure))


def failures() -> list[dict[str, Any]]:
    """The failed jobs of this process's sweep, in the order of their numbers; none where there was no sweep."""
    if SweepCallback.folder is None:
        return []
    paths = sorted(SweepCallback.folder.glob("failed-*.json"), key=lambda path: int(path.stem.split("-")[1]))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]
