"""Launchers: the same numbers wherever the cells run, and a cell that is cut off goes on (docs/clusters.md)."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from helpers import ROOT

from delta_lora.suite.records.records import Run, read_runs

STEPS = ("task.train.epochs=40", "task.train.save_steps=50")  # 480 steps: time to cut a cell off after its checkpoint
Sweep = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def sweep(gpt2_checkpoint: Path) -> Sweep:
    """Starts ``scripts/train.py -m`` on a small GPT-2."""
    from helpers.runs import SHORT

    def start(
        results: Path, *overrides: str, start_steps: str = "3,60", environment: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        model = [f"model.path={gpt2_checkpoint}", "model.hidden_size=32", "logger=none", f"results_dir={results}"]
        command = [sys.executable, "scripts/train.py", "-m", *SHORT, *STEPS, *model, *overrides]
        command += ["method=delta-lora", f"method.start_steps={start_steps}"]
        pipe = subprocess.PIPE
        variables = {**os.environ, **(environment or {})}
        return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=variables)

    return start


@pytest.fixture(scope="module")
def undisturbed(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """The two cells one after the other, in one process."""
    results = tmp_path_factory.mktemp("basic")
    finish(sweep(results))
    runs = read_runs(results)
    assert len(runs) == 2 and numbers(runs[0]) != numbers(runs[1])
    return runs


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    return output


def numbers(run: Run) -> tuple[str, dict[str, float], str, str, str]:
    """What must be the same: metrics, and the SHA-256 of predictions, adapter and similarities."""
    files = json.loads((run.path / "run.json").read_text())["files"]
    names = ("predictions.jsonl", "adapter/adapter_model.safetensors", "similarity.json")
    return run.key, run.metrics, *(files[name] for name in names)


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 200
    while not condition():
        assert time.monotonic() < end, "did not come"
        time.sleep(0.02)


@pytest.mark.cluster
@pytest.mark.parametrize("launcher", ["joblib", "ray"])
def test_a_sweep_of_two_cells_at_a_time_gives_the_numbers_of_one_after_the_other(
    sweep: Sweep, undisturbed: list[Run], tmp_path: Path, launcher: str
) -> None:
    finish(sweep(tmp_path, f"hydra/launcher={launcher}", "hydra.launcher.n_jobs=2"))
    assert [numbers(run) for run in read_runs(tmp_path)] == [numbers(run) for run in undisturbed]


@pytest.mark.cluster
def test_a_job_that_gets_the_queues_signal_is_requeued_and_ends_with_the_same_numbers(
    sweep: Sweep, undisturbed: list[Run], tmp_path: Path
) -> None:
    """End to end on submitit's local executor: SIGUSR2, checkpoint, requeue, resume."""
    command = sweep(tmp_path, "hydra/launcher=submitit_local")
    wait_for(lambda: list(tmp_path.glob("runs/*/checkpoints/checkpoint-50/seal.json")))
    time.sleep(0.2)  # the checkpoint that the test is about is a later one
    for job in tmp_path.glob("sweeps/*/.submitit/[0-9]*"):  # named by the process that watches over the job
        for task in psutil.Process(int(job.name)).children():
            task.send_signal(signal.SIGUSR2)
    finish(command)
    runs = read_runs(tmp_path)
    assert [numbers(run) for run in runs] == [numbers(run) for run in undisturbed]
    assert any(run.train["resumed_from_step"] % 50 for run in runs), "no checkpoint was written at the signal"
    assert "Requeued job" in "".join(path.read_text() for path in tmp_path.glob("sweeps/*/.submitit/*/*_log.*"))


PROBE = """
import json, os, sys, time
from pathlib import Path
from delta_lora.suite.cli import hydra_main

def wait(condition, seconds):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)

def main(config):
    folder = Path(config.results_dir)  # a relative one
    (folder / f"started-{config.seed}").touch()
    count = lambda: len(list(folder.glob("started-*"))) - len(list(folder.glob("ended-*")))
    wait(lambda: len(list(folder.glob("started-*"))) > 1, 100)
    wait(lambda: count() > 2, 5)  # time for a third, which must not come
    running = count()
    seen = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "DELTA_LORA_X", "WANDB_MODE", "HF_TOKEN")}
    (folder / f"seen-{config.seed}.json").write_text(json.dumps({**seen, "running": running}))
    (folder / f"ended-{config.seed}").touch()

sys.exit(hydra_main(main))
"""

CLUSTER = """
import sys, ray
ray.init(address="local", num_cpus=4, num_gpus=4, include_dashboard=False, object_store_memory=100 * 2**20)
print("address", ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@pytest.mark.cluster
def test_a_running_ray_cluster_gets_variables_folder_and_one_gpu_a_cell_and_no_more_cells_than_jobs(
    tmp_path: Path,
) -> None:
    """A cluster started elsewhere, with another environment; its GPUs are Ray's count of them, no devices."""
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    (here / "results").mkdir(parents=True)
    (here / "probe.py").write_text(PROBE)
    plain = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    plain |= {"RAY_USAGE_STATS_ENABLED": "0", **(login := {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 32})}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER], cwd=there, env=plain, stdin=pipe, stdout=pipe, text=True
    ) as cluster:
        assert cluster.stdout is not None and cluster.stdin is not None
        address = next(line for line in cluster.stdout if line.startswith("address")).split()[1]
        command = [sys.executable, "probe.py", "-m", "scale=tiny", "results_dir=results", "seed=1,2,3,4"]
        command += ["hydra/launcher=ray", f"hydra.launcher.address={address}", "hydra.launcher.n_jobs=2"]
        variables = {**os.environ, **login, "DELTA_LORA_X": "x", "WANDB_MODE": "disabled", "HF_TOKEN": "secret"}
        result = subprocess.run(command, cwd=here, env=variables, capture_output=True, text=True, check=False)
        cluster.stdin.close()
    assert result.returncode == 0, result.stdout + result.stderr
    seen = [json.loads((here / "results" / f"seen-{seed}.json").read_text()) for seed in (1, 2, 3, 4)]
    assert [(one["DELTA_LORA_X"], one["WANDB_MODE"], one["HF_TOKEN"]) for one in seen] == [("x", "disabled", None)] * 4
    assert all(len(one["CUDA_VISIBLE_DEVICES"]) == 1 for one in seen)
    assert seen[0]["CUDA_VISIBLE_DEVICES"] != seen[1]["CUDA_VISIBLE_DEVICES"]
    assert max(one["running"] for one in seen) == 2


DYING = """
import os, signal, sys
from pathlib import Path
from delta_lora.suite.cli import hydra_main

def main(config):
    with (Path(config.results_dir) / f"tries-{config.seed}").open("a") as tries:
        tries.write("x")
        deaths = {1: 0, 2: 1, 3: 9}[config.seed]
        if tries.tell() <= deaths:
            tries.flush()
            os.kill(os.getpid(), signal.SIGKILL)

sys.exit(hydra_main(main))
"""


@pytest.mark.cluster
def test_a_cell_whose_ray_worker_dies_is_started_again_and_one_that_always_dies_is_listed(tmp_path: Path) -> None:
    (tmp_path / "dying.py").write_text(DYING)
    command = [sys.executable, "dying.py", "-m", "scale=tiny", "results_dir=.", "seed=1,2,3"]
    command += ["hydra/launcher=ray", "hydra.launcher.n_jobs=2", "hydra.launcher.max_retries=1"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 1, result.stdout + result.stderr
    assert [(tmp_path / f"tries-{seed}").read_text() for seed in (1, 2, 3)] == ["x", "xx", "xx"]
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "WorkerCrashedError" in line and "seed=3" in line


@pytest.mark.parametrize("setting", ["n_jobs=0", "cpus_per_cell=null", "gpus_per_cell=-1", "max_retries=1.5"])
def test_a_setting_of_the_ray_launcher_out_of_its_range_is_one_line(setting: str) -> None:
    from hydra import compose, initialize_config_dir

    from delta_lora.errors import UserError
    from hydra_plugins.delta_lora_ray import RayLauncher

    overrides = ["hydra/launcher=ray", f"hydra.launcher.{setting}"]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        settings = dict(compose("train", overrides, return_hydra_config=True).hydra.launcher)
    del settings["_target_"]
    with pytest.raises(UserError, match=rf"hydra\.launcher\.{setting.split('=')[0]} must be a .*number ≥ [01], got"):
        RayLauncher(**settings).launch([], 0)


@pytest.mark.parametrize("package", ["submitit", "ray"])
def test_a_launcher_whose_package_is_not_installed_says_what_to_install(tmp_path: Path, package: str) -> None:
    """As in an environment without the extras: Hydra's plugins are those that do not need them."""
    import hydra_plugins

    plugins = tmp_path / "hydra_plugins"
    plugins.mkdir()
    for folder in map(Path, hydra_plugins.__path__):
        for path in folder.glob("[a-z]*"):
            if "submitit" not in path.name and not (plugins / path.name).exists():
                (plugins / path.name).symlink_to(path)
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, types\n"
        "plugins = sys.modules['hydra_plugins'] = types.ModuleType('hydra_plugins')\n"
        f"plugins.__path__ = [{str(plugins)!r}]\n"
        "sys.modules['ray'] = None\n"
    )
    extra = {"submitit": "slurm", "ray": "ray"}[package]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "scripts/train.py", "-m", "scale=tiny", "seed=1,2", f"hydra/launcher={extra}"]
    command.append(f"results_dir={tmp_path / 'results'}")
    result = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1 and f"pip install -e .[{extra}]" in result.stderr, result.stderr


def test_slurm_where_there_is_none_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/train.py", "-m", "scale=tiny", "seed=1,2", "hydra/launcher=slurm"]
    command.append(f"results_dir={tmp_path}")
    variables = {**os.environ, "PATH": str(tmp_path)}
    result = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1 and "there is no sbatch here" in result.stderr


SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
KillWait=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000 State=UNKNOWN
PartitionName=low Nodes={host} Default=YES PriorityTier=1 GraceTime=5 State=UP
PartitionName=high Nodes={host} PriorityTier=10 PreemptMode=OFF State=UP
"""
ON_SLURM = ("hydra/launcher=slurm", "hydra.launcher.gpus_per_node=null", "hydra.launcher.mem_gb=null")
ON_SLURM += ("hydra.launcher.cpus_per_task=1",)


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    """A Slurm of one node, this machine; its value is what a process needs in its environment to use it."""
    if os.geteuid() != 0:
        pytest.skip("installing and starting Slurm needs root")
    programs = ("munged", "slurmctld", "slurmd", "sbatch")
    if not all(map(shutil.which, programs)):
        if shutil.which("apt-get") is None:
            pytest.skip("Slurm is not installed, and there is no apt-get")
        install = ["apt-get", "install", "-y", "-q", "--no-install-recommends"]
        packages = ["munge", "slurmctld", "slurmd", "slurm-client"]
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-q"], env=quiet, capture_output=True, check=False)
        if subprocess.run([*install, *packages], env=quiet, capture_output=True, check=False).returncode:
            pytest.skip("apt-get cannot install Debian's Slurm packages here")
    folder = Path("/tmp") / f"delta-lora-slurm-{os.getpid()}"  # munged wants a short, safe path
    for name in ("", "state", "spool"):
        (folder / name).mkdir(mode=0o755)
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    with socket.socket() as one, socket.socket() as two:
        for free in (one, two):
            free.bind(("127.0.0.1", 0))
        ports = (one.getsockname()[1], two.getsockname()[1])
    host = socket.gethostname().partition(".")[0]
    conf = folder / "slurm.conf"
    conf.write_text(SLURM_CONF.format(host=host, folder=folder, ports=ports, cpus=os.cpu_count()))
    environment = {"SLURM_CONF": str(conf)}
    munge = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    daemons = [
        ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *munge],
        ["slurmctld", "-D"],
        ["slurmd", "-D", "-N", host],
    ]
    started = []
    try:
        for daemon in daemons:
            with (folder / f"{daemon[0]}.out").open("w") as out:
                started.append(
                    subprocess.Popen(daemon, env={**os.environ, **environment}, stdout=out, stderr=subprocess.STDOUT)
                )
            time.sleep(1)
        wait_for(lambda: "idle" in slurm_says(environment, "sinfo", "-h", "-o", "%T"))
        yield environment
    finally:
        slurm_says(environment, "scancel", "--full", "--user=root")
        for process in reversed(started):
            process.terminate()
            process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def slurm_says(environment: dict[str, str], *command: str) -> str:
    variables = {**os.environ, **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False).stdout


@pytest.mark.slurm
def test_a_sweep_on_slurm_gives_the_numbers_of_one_after_the_other(
    slurm: dict[str, str], sweep: Sweep, undisturbed: list[Run], tmp_path: Path
) -> None:
    finish(sweep(tmp_path, *ON_SLURM, environment=slurm))
    assert [numbers(run) for run in read_runs(tmp_path)] == [numbers(run) for run in undisturbed]


@pytest.mark.slurm
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("how", ["signal before the end of its time", "pre-emption"])
def test_a_slurm_job_that_is_cut_off_is_requeued_and_ends_with_the_same_numbers(
    slurm: dict[str, str], sweep: Sweep, undisturbed: list[Run], tmp_path: Path, how: str
) -> None:
    """SIGUSR2, upon which the job requeues itself; and SIGTERM, grace time, SIGKILL, upon which Slurm requeues it."""
    longer: list[str] = []
    whole = undisturbed
    if how == "pre-emption":
        longer = ["task.train.epochs=150"]  # beyond the grace time
        finish(sweep(tmp_path / "whole", *longer, start_steps="3"))
        whole = read_runs(tmp_path / "whole")
    command = sweep(tmp_path, *ON_SLURM, *longer, start_steps="3", environment=slurm)
    wait_for(lambda: list(tmp_path.glob("runs/*/checkpoints/checkpoint-50/seal.json")))
    job = slurm_says(slurm, "squeue", "-h", "-o", "%i").split()[0]
    if how == "pre-emption":
        slurm_says(slurm, "sbatch", "-p", "high", "--exclusive", "-o", "/dev/null", "--wrap", "true")
    else:
        slurm_says(slurm, "scancel", "--signal=USR2", job)
    wait_for(lambda: "BeginTime" in slurm_says(slurm, "squeue", "-h", "-j", job, "-o", "%r"))
    checkpoints = [int(path.name.split("-")[1]) for path in tmp_path.glob("runs/*/checkpoints/checkpoint-*")]
    slurm_says(slurm, "scontrol", "update", f"JobId={job}", "StartTime=now")  # Slurm itself lets it wait for 2 minutes
    finish(command)
    (run,) = read_runs(tmp_path)
    assert run.train["resumed_from_step"] == max(checkpoints)
    if how == "pre-emption":  # later checkpoints may have taken the place of this one
        assert "SIGTERM: a checkpoint is being written; the training goes on" in "".join(
            path.read_text() for path in tmp_path.glob("sweeps/*/slurm/*/*_log.*")
        )
    else:
        assert any(step % 50 for step in checkpoints), "no checkpoint was written at the signal"
    assert numbers(run) in map(numbers, whole)
