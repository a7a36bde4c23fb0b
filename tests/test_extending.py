"""docs/extending.md to the letter: the files that it shows, in a copy of the project, train, score and render."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.extending import documented, project_with
from helpers.models import llama_config

pytestmark = pytest.mark.xdist_group("extending")  # one copy for all
SHORT = [
    "logger=none",
    "results_dir=results",
    "cache_dir=cache",
    "task.train.epochs=1",
    "task.train.warmup_steps=2",
    "task.decode.max_new_tokens=8",
    "task.decode.beam_size=2",
]
METHOD = ["configs/method/pissa-delta-lora.yaml", "src/delta_lora/methods/pissa_delta_lora.py"]
TASK = [
    "src/delta_lora/tasks/dart.py",
    "configs/task/dart.yaml",
    "configs/preset/tiny/dart.yaml",
    "configs/table/dart.yaml",
]
MODEL = ["configs/model/my-llama.yaml"]


IN_ONE_PROCESS = """\
import json, runpy, sys
for script, *arguments in json.loads(sys.argv[1]):
    print("COMMAND", script, flush=True)
    sys.argv = [f"scripts/{script}.py", *arguments]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        assert not end.code, (script, arguments, end.code)
"""  # what the scripts import takes 6 s a process


def run(project: Path, *commands: list[str]) -> list[str]:
    """Scripts of the copy, one after the other; the standard output of each."""
    clean = {name: value for name, value in os.environ.items() if name != "DELTA_LORA_DATA"}
    clean |= {"PYTHONPATH": str(project / "src"), "WANDB_MODE": "offline"}
    command = [sys.executable, "-c", IN_ONE_PROCESS, json.dumps(commands)]
    done = subprocess.run(command, cwd=project, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.split("COMMAND ")[1:]


def records(project: Path, results: str = "results") -> list[dict[str, Any]]:
    """The finished runs."""
    return [json.loads(path.read_text()) for path in sorted(project.glob(f"{results}/runs/*/run.json"))]


def dart(folder: Path) -> Path:
    """A few entries in the release's form."""
    (folder / "dart").mkdir(parents=True)
    for name, count in (("train", 40), ("test", 6)):
        entries = [
            {
                "tripleset": [[f"Place {i}", "LOCATED_IN", f"Town {i % 7}"], [f"Place {i}", "OPENED", f"{1900 + i}"]],
                "subtree_was_extended": False,
                "annotations": [
                    {"source": "made up", "text": f"Place {i} is in Town {i % 7} ."},
                    {"source": "made up", "text": f"Place {i} of Town {i % 7} opened in {1900 + i} ."},
                ],
            }
            for i in range(count)
        ]
        (folder / "dart" / f"dart-v1.1.1-full-{name}.json").write_text(json.dumps(entries))
    return folder


def test_every_file_of_the_page_is_used_here() -> None:
    assert sorted(documented()) == sorted([*METHOD, *TASK, *MODEL])


@pytest.fixture(scope="module")
def project(gpt2_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The copy after everything that the page says to run, and ``said-*.txt`` with what the commands print."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("extending")
    tokenizer = AutoTokenizer.from_pretrained(gpt2_checkpoint)
    tokenizer.save_pretrained(folder / "llama")
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    config = llama_config(vocab_size=len(tokenizer), max_position_embeddings=256, **special)
    LlamaForCausalLM(config).save_pretrained(folder / "llama")

    project, data = project_with([*METHOD, *TASK, *MODEL], folder / "project"), dart(folder / "data")
    gpt2, llama = ([f"model.path={path}", "model.hidden_size=32"] for path in (gpt2_checkpoint, folder / "llama"))
    fewer = ["task.max_train_examples=64", "task.max_test_examples=4", "method.start_steps=3"]
    own = ["task=e2e", "scale=tiny", *SHORT, *fewer]
    tiny = ["scale=tiny", "task.max_train_examples=64", "task.per_method.delta_lora.start_steps=3"]
    tiny += [*SHORT, f"data_dir={data}", *gpt2]
    paper = ["scale=paper", "scale.require_gpu=false", "model=gpt2-tiny", "task.max_train_examples=64"]
    paper += [*SHORT, f"data_dir={data}", *gpt2, "task=dart", "method=delta-lora", "method.start_steps=2"]
    said = run(
        project,
        ["train", "method=pissa-delta-lora", *own, *gpt2, "results_dir=method"],
        ["train", "model=my-llama", "method=delta-lora", *own, *llama, "results_dir=model"],
        ["train", *paper, "results_dir=paper"],
        ["train", "-m", "table=dart", *tiny],
        ["render", "dart", *tiny],
        ["plan", "dart", *tiny],
    )
    changed = data / "dart" / "dart-v1.1.1-full-test.json"
    changed.write_text(changed.read_text().replace("Town 1", "Town 11"))
    said += run(project, ["plan", "dart", *tiny])
    for name, text in zip(("render", "plan", "later"), said[-3:], strict=True):
        (project / f"said-{name}.txt").write_text(text, encoding="utf-8")
    return project


def test_a_method(project: Path) -> None:
    (record,) = records(project, "method")
    assert record["config"]["method"]["name"] == "pissa-delta-lora" and "BLEU" in record["metrics"]
    (adapter,) = project.glob("method/runs/*/adapter/adapter_config.json")
    settings = json.loads(adapter.read_text())
    assert settings["r"] == 2 * 3 * 4, "start, anchor and end of rank 4, for the query and the value in one"
    assert settings["init_lora_weights"] is True, "a stock adapter over the untouched checkpoint"


def test_a_task_at_two_scales_with_a_table_of_its_own(project: Path) -> None:
    assert {record["config"]["method"]["name"] for record in records(project)} == {"lora", "delta-lora"}
    shown, plan, later = ((project / f"said-{name}.txt").read_text() for name in ("render", "plan", "later"))
    assert "DART" in shown and "the paper" not in shown
    page = (project / "results" / "tiny" / "dart.md").read_text()
    assert "| LoRA (repr.) |" in page and "TER-A ↓" in page and "not run" not in page
    assert "dart" in plan
    assert len(records(project, "paper")) == 1
    assert "0" in later.split("to run")[0].split(":")[-1], "other data, other runs"


def test_a_model(project: Path) -> None:
    (record,) = records(project, "model")
    assert record["config"]["model"]["name"] == "my-llama" and "BLEU" in record["metrics"]
    assert list(project.glob("model/runs/*/adapter/adapter_model.safetensors"))
