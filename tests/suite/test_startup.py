"""Help and mistakes answer at once: nothing that takes seconds to load has been imported by then."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

HEAVY = {"torch", "transformers", "peft", "evaluate", "datasets", "pandas", "sklearn", "scipy", "wandb", "matplotlib"}
TINY = ("train.py", "scale=tiny")


def loaded(arguments: tuple[str, ...], cwd: Path) -> tuple[int, set[str], str]:
    """Exit code, imported modules and the other lines of standard error of one of the scripts."""
    script = str(ROOT / "scripts" / arguments[0])
    command = [sys.executable, "-X", "importtime", script, *arguments[1:]]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    lines = result.stderr.splitlines()
    modules = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    return result.returncode, modules, "\n".join(line for line in lines if not line.startswith("import time:"))


@pytest.mark.parametrize("script", ["train.py", "score.py", "render.py", "plan.py", "generate.py"])
def test_help_loads_nothing_heavy(tmp_path: Path, script: str) -> None:
    code, modules, _ = loaded((script, "--help"), tmp_path)
    assert code == 0 and not HEAVY & modules


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train.py", "method=nope"), "method=nope is not a choice"),
        ((*TINY, "task.train.batch_size=0"), "task.train.batch_size must be a whole number ≥ 1"),
        ((*TINY, "task=glue/cola", "task.train.batch_size=0"), "task.train.batch_size must be a whole number ≥ 1"),
        ((*TINY, "+task.sentences=[a,b]"), "there is no setting task.sentences"),
        ((*TINY, "task=xsum"), "task=xsum needs a seq2seq one; use model=bart-tiny"),
        ((*TINY, "logger.mode=x"), "logger.mode must be auto, online or offline, got 'x'"),
        (("score.py", "nope", "a", "b"), "unknown task 'nope'"),
    ],
)
def test_a_mistake_loads_nothing_heavy(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    code, modules, told = loaded(arguments, tmp_path)
    assert code == 2 and message in told and told.startswith("error: ")
    assert not HEAVY & modules


def test_composing_loads_nothing_heavy(tmp_path: Path) -> None:
    code, modules, _ = loaded(("train.py", "--cfg", "job", "--resolve"), tmp_path)
    assert code == 0 and not HEAVY & modules


def test_a_sweep_leaves_what_is_heavy_to_its_jobs(tmp_path: Path) -> None:
    """Its own process only waits for them; here it stops before the first, since joblib refuses to start none."""
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=0")
    sweep = ("train.py", "-m", "table=table1", "scale=tiny", f"results_dir={tmp_path}", *launcher)
    _, modules, _ = loaded(sweep, tmp_path)
    assert "hydra_plugins.hydra_joblib_launcher._core" in modules and not HEAVY & modules


def test_a_table_is_rendered_without_what_trains(tmp_path: Path) -> None:
    """Its cells' keys need what the methods' classes say of their settings; no torch, Transformers and PEFT."""
    code, modules, told = loaded(("render.py", "table1", "scale=tiny", f"results_dir={tmp_path}"), tmp_path)
    assert code == 2 and "no finished run of this table" in told
    assert "delta_lora.methods.lora" in modules and not (HEAVY - {"pandas", "scipy"}) & modules


def test_every_method_says_of_its_settings_without_what_trains() -> None:
    files = sorted((ROOT / "configs" / "method").glob("*.yaml"))
    targets = {target for path in files for target in re.findall(r"^_target_: (\S+)", path.read_text(), re.MULTILINE)}
    targets |= {f"delta_lora.methods.controls.{name}" for name in ("DeltaLoraAblation", "SlowStartLora")}
    code = (
        f"import sys\nfrom delta_lora.methods.lookup import settings_with\n"
        f"facts = [settings_with({{'_target_': target}}, 'outside_key') for target in {sorted(targets)}]\n"
        f"print(all('label' in fact for fact in facts), *[name for name in {sorted(HEAVY)} if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert len(targets) > 6 and told.split() == ["True"]
