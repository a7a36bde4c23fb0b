"""Sweeps and tracking: one failing cell stops nothing, and neither does Weights & Biases."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT
from omegaconf import DictConfig

from delta_lora.suite import sweep
from delta_lora.suite.records.records import read_runs
from delta_lora.suite.run.recipe import run_cell


@pytest.mark.parametrize(
    "launcher",
    ["basic", "joblib", *(pytest.param(name, marks=pytest.mark.cluster) for name in ("ray", "submitit_local"))],
)
def test_a_sweep_finishes_its_other_cells_and_lists_what_failed(
    gpt2_checkpoint: Path, tmp_path: Path, launcher: str
) -> None:
    """One after the other, two at a time, on Ray, and as submitit's jobs (its local executor in place of Slurm)."""
    from helpers.runs import SHORT

    model = [f"model.path={gpt2_checkpoint}", "model.hidden_size=32", "logger=none", f"results_dir={tmp_path}"]
    cells = ["method=lora", "method.rank=99,2,98", "task.metrics=[loss]"]  # no text is decoded, and no Java started
    command = [sys.executable, "scripts/train.py", "-m", *SHORT, *model, *cells]
    command += [f"hydra/launcher={launcher}"] + ["hydra.launcher.n_jobs=2"] * (launcher in ("joblib", "ray"))
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2, result.stdout + result.stderr
    assert [run.config["method"]["rank"] for run in read_runs(tmp_path)] == [2]
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2, result.stderr
    assert "got 99" in errors[0] and "method.rank=99" in errors[0]
    assert "2 of the sweep's cells failed" in result.stderr


def test_a_sweep_that_cannot_run_anywhere_says_so_once(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    command = [sys.executable, "scripts/train.py", "-m", "table=table1", f"results_dir={tmp_path}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.count("scale=tiny") == 1
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.usefixtures("quick_scores")
def test_a_run_is_logged_offline_with_its_metrics_in_the_summary(
    short: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    started: list[Any] = []
    summary: dict[str, Any] = {}
    original = wandb.init

    def init(**settings: Any) -> Any:
        tracked = original(**settings)
        finish = tracked.finish
        started.append(tracked)
        tracked.finish = lambda: (summary.update(tracked.summary), finish())
        return tracked

    monkeypatch.setattr(wandb, "init", init)
    run = run_cell(short("method=lora", "logger=wandb", "logger.mode=offline"))
    (tracked,) = started
    assert tracked.settings.mode == "offline"
    assert tracked.group == "tiny-e2e"
    assert summary["BLEU"] == run.metrics["BLEU"]
    assert summary["trainable"] == run.counts["trainable"]
    assert tracked.config["method"]["name"] == "lora"
    (offline,) = run.path.parents[1].glob(f"wandb/offline-run-*/run-{run.key}.wandb")
    assert offline.stat().st_size > 0


@pytest.mark.usefixtures("quick_scores")
@pytest.mark.parametrize("failing", ["init", "log"])
def test_no_run_fails_because_wandb_does(
    short: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failing: str
) -> None:
    import wandb

    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise OSError("no space left on device")

    def broken(**settings: Any) -> Broken:
        if failing == "init":
            raise OSError("unreachable")
        return Broken()

    monkeypatch.setattr(wandb, "init", broken)
    run = run_cell(short("method=lora", "logger=wandb"))
    assert run.metrics
    assert "goes on without it" in caplog.text


def test_the_slurm_launcher_requeues_what_is_cut_off() -> None:
    """What Slurm is asked for; `make test-slurm` asks it (test_clusters.py)."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        launcher = compose("train", ["hydra/launcher=slurm"], return_hydra_config=True).hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher")
    assert launcher.max_num_timeout > 0 and launcher.gpus_per_node == 1 and launcher.signal_delay_s >= 60


@pytest.mark.parametrize(("jobs", "started"), [(3, 2), (2, 2), (1, 1), (-1, -1)])
def test_no_more_jobs_start_than_there_are_cores(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, jobs: int, started: int
) -> None:
    """Each has as many threads as leave the others theirs, but at least one."""
    from hydra import compose, initialize_config_dir

    monkeypatch.setattr(sweep, "usable_cores", lambda: 2)
    monkeypatch.setattr(sweep.SweepCallback, "folder", None)
    given = ["scale=tiny", "hydra/launcher=joblib", f"hydra.launcher.n_jobs={jobs}", f"hydra.sweep.dir={tmp_path}"]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = compose("train", given, return_hydra_config=True)
    sweep.SweepCallback().on_multirun_start(config)
    assert config.hydra.launcher.n_jobs == started
    line = "hydra.launcher.n_jobs=3 (JOBS) is more than the 2 cores here: 2 at a time\n"
    assert capsys.readouterr().err == ("" if jobs == started else line)


@pytest.mark.parametrize(("jobs", "given", "left"), [(2, "2", "1"), (-1, "2", "1"), (1, "2", "2"), (1, "8", "2")])
def test_jobs_share_the_cores_whatever_number_of_threads_they_would_inherit(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    jobs: int,
    given: str,
    left: str,
) -> None:
    from hydra import compose, initialize_config_dir

    monkeypatch.setattr(sweep, "usable_cores", lambda: 2)
    monkeypatch.setattr(sweep.SweepCallback, "folder", None)
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    words = ["scale=tiny", "hydra/launcher=joblib", f"hydra.launcher.n_jobs={jobs}", f"hydra.sweep.dir={tmp_path}"]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = compose("train", words, return_hydra_config=True)
    sweep.SweepCallback().on_multirun_start(config)
    assert os.environ["OMP_NUM_THREADS"] == left
    line = f"OMP_NUM_THREADS={given} is more than a job's share of the cores here: {left} for each\n"
    assert capsys.readouterr().err == ("" if given == left else line)
