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


def run(project: Path, script: str, *arguments: str, **environment: str) -> str:
    """A script of the copy; its standard output."""
    clean = {name: value for name, value in os.environ.items() if name != "DELTA_LORA_DATA"}
    clean |= {"PYTHONPATH": str(project / "src"), "WANDB_MODE": "offline", **environment}
    command = [sys.executable, str(project / "scripts" / f"{script}.py"), *arguments]
    done = subprocess.run(command, cwd=project, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def records(project: Path) -> list[dict[str, Any]]:
    """The finished runs."""
    return [json.loads(path.read_text()) for path in sorted(project.glob("results/runs/*/run.json"))]


def test_every_file_of_the_page_is_used_here() -> None:
    assert sorted(documented()) == sorted([*METHOD, *TASK, *MODEL])


@pytest.mark.all_metrics
def test_a_method(gpt2_checkpoint: Path, tmp_path: Path) -> None:
    project = project_with(METHOD, tmp_path / "project")
    model = [f"model.path={gpt2_checkpoint}", "model.hidden_size=32"]
    fewer = ["task.max_train_examples=64", "task.max_test_examples=4", "method.start_steps=3"]
    run(project, "train", "task=e2e", "method=pissa-delta-lora", "scale=tiny", *SHORT, *model, *fewer)
    (record,) = records(project)
    assert record["config"]["method"]["name"] == "pissa-delta-lora" and "BLEU" in record["metrics"]
    (adapter,) = project.glob("results/runs/*/adapter/adapter_config.json")
    settings = json.loads(adapter.read_text())
    assert settings["r"] == 2 * 3 * 4, "start, anchor and end of rank 4, for the query and the value in one"
    assert settings["init_lora_weights"] is True, "a stock adapter over the untouched checkpoint"


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


@pytest.mark.all_metrics
def test_a_task_at_two_scales_with_a_table_of_its_own(gpt2_checkpoint: Path, tmp_path: Path) -> None:
    project, data = project_with(TASK, tmp_path / "project"), dart(tmp_path / "data")
    given = [*SHORT, f"data_dir={data}", f"model.path={gpt2_checkpoint}", "model.hidden_size=32"]
    tiny = ["scale=tiny", "task.max_train_examples=64", "task.per_method.delta_lora.start_steps=3", *given]
    run(project, "train", "-m", "table=dart", *tiny)
    assert {record["config"]["method"]["name"] for record in records(project)} == {"lora", "delta-lora"}
    shown = run(project, "render", "dart", *tiny)
    assert "DART" in shown and "the paper" not in shown
    page = (project / "results" / "tiny" / "dart.md").read_text()
    assert "| LoRA (repr.) |" in page and "TER-A ↓" in page and "not run" not in page
    assert "dart" in run(project, "plan", "dart", *tiny)

    paper = ["scale=paper", "scale.require_gpu=false", "model=gpt2-tiny", "task.max_train_examples=64", *given]
    run(project, "train", "task=dart", "method=delta-lora", "method.start_steps=2", *paper)
    assert len(records(project)) == 3

    changed = data / "dart" / "dart-v1.1.1-full-test.json"
    changed.write_text(changed.read_text().replace("Town 1", "Town 11"))
    assert "0" in run(project, "plan", "dart", *tiny).split("to run")[0].split(":")[-1], "other data, other runs"


@pytest.mark.all_metrics
def test_a_model(gpt2_checkpoint: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(gpt2_checkpoint)
    tokenizer.save_pretrained(tmp_path / "llama")
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    config = llama_config(vocab_size=len(tokenizer), max_position_embeddings=256, **special)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    project = project_with(MODEL, tmp_path / "project")
    place = [f"model.path={tmp_path / 'llama'}", "model.hidden_size=32"]
    fewer = ["task.max_train_examples=64", "task.max_test_examples=4", "method.start_steps=3"]
    run(project, "train", "task=e2e", "model=my-llama", "method=delta-lora", "scale=tiny", *SHORT, *place, *fewer)
    (record,) = records(project)
    assert record["config"]["model"]["name"] == "my-llama" and "BLEU" in record["metrics"]
    assert list(project.glob("results/runs/*/adapter/adapter_model.safetensors"))
