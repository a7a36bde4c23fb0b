"""What `make` may not throw away, and what it starts."""

import os
import subprocess
from pathlib import Path

from helpers import ROOT


def test_clean_keeps_what_wandb_has_not_uploaded(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text(encoding="utf-8"), encoding="utf-8")
    for name in ("runs/abc", "sweeps/one", "wandb/run-3", "wandb/offline-run-1-a", "wandb/offline-run-2-b"):
        (tmp_path / "results" / name).mkdir(parents=True)
    (tmp_path / "results/wandb/offline-run-1-a/run-a.wandb").touch()
    (tmp_path / "results/wandb/offline-run-2-b/run-b.wandb").touch()
    (tmp_path / "results/wandb/offline-run-2-b/run-b.wandb.synced").touch()  # as `wandb sync` marks it
    done = subprocess.run(["make", "clean"], cwd=tmp_path, capture_output=True, text=True, check=True)
    left = sorted(path.relative_to(tmp_path / "results").as_posix() for path in (tmp_path / "results").glob("*/*"))
    assert left == ["wandb/offline-run-1-a"] and "not uploaded yet, kept: results/wandb/offline-run-1-a" in done.stdout
    subprocess.run(["make", "clean"], cwd=tmp_path / "results" / "..", check=True)


def test_force_reaches_whatever_renders() -> None:
    for target in ("table1", "table TABLE=table1", "tables", "claims", "report", "notebooks"):
        lines = [f"make -n {target} SCALE=tiny {force}" for force in ("FORCE=1", "FORCE=")]
        forced, plain = (subprocess.check_output(line, shell=True, cwd=ROOT, text=True) for line in lines)
        assert forced.count("seed=1 force=true") == 1 and "force=true" not in plain


def test_notebooks_are_of_one_scale_only_where_it_is_asked_for() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "SCALE"}
    for given, wanted in (("", "notebooks seed=1"), ("SCALE=tiny", "notebooks scale=tiny seed=1")):
        command = f"make -n notebooks {given}"
        said = subprocess.check_output(command, shell=True, cwd=ROOT, text=True, env=environment)
        assert wanted in " ".join(said.split())


def test_bench_trains_beside_the_peers_where_they_know_the_model() -> None:
    for given, peers in (("", "--model all"), ("MODEL=gpt2-medium", "--model gpt2-medium"), ("MODEL=bart-large", None)):
        said = subprocess.check_output(f"make -n bench {given} DEVICE=cuda", shell=True, cwd=ROOT, text=True)
        started = [line for line in said.splitlines() if "bench.py --peers" in line]
        assert started == (
            [] if peers is None else [f".venv/bin/python scripts/bench.py --peers --device cuda {peers}"]
        )


def test_what_trains_has_the_faster_allocator_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libtcmalloc_minimal.so.4").touch()
    for target, trained in (("table1", 1), ("table TABLE=table1", 1), ("tables", 1), ("claims", 0)):
        for given, preloaded in ((f"CONDA_PREFIX={tmp_path}", True), ("TCMALLOC=", False)):
            said = subprocess.check_output(f"make -n {target} SCALE=tiny {given}", shell=True, cwd=ROOT, text=True)
            found = said.count(f"LD_PRELOAD={tmp_path}/lib/libtcmalloc_minimal.so.4")
            assert found == (trained if preloaded else 0) and said.count("scripts/train.py") == trained
