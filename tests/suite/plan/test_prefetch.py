"""Paper-scale loading without a network: what `make prefetch` leaves in the hub's cache is all that is needed."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from helpers import ROOT
from helpers.hub_server import COMMIT, CONVERTED, PullRequest, hub
from helpers.method_models import stock_model
from omegaconf import OmegaConf
from safetensors.torch import load, save
from transformers import PreTrainedModel, PreTrainedTokenizerBase, RobertaForMaskedLM

GLUE = {  # sentence columns, scored splits, a label
    "mnli": (["premise", "hypothesis"], ["validation_matched", "validation_mismatched"], 2),
    "sst2": (["sentence"], ["validation"], 1),
    "mrpc": (["sentence1", "sentence2"], ["validation"], 1),
    "cola": (["sentence"], ["validation"], 1),
    "qnli": (["question", "sentence"], ["validation"], 1),
    "qqp": (["question1", "question2"], ["validation"], 1),
    "rte": (["sentence1", "sentence2"], ["validation"], 1),
    "stsb": (["sentence1", "sentence2"], ["validation"], 3.8),
}
MODELS = {"gpt2": "openai-community/gpt2-medium", "bart": "facebook/bart-large", "roberta": "FacebookAI/roberta-base"}
SWEEP = ["model=gpt2-medium,bart-large,roberta-base", f"task={','.join(['xsum', *(f'glue/{n}' for n in GLUE)])}"]

OFFLINE = """
import sys
from pathlib import Path
from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from delta_lora.models.load import load_model, load_tokenizer, resolved_revision

sizes = {}
with initialize_config_dir(sys.argv[1], version_base="1.3"):
    for model, tasks in (("gpt2-medium", sys.argv[3:]), ("bart-large", ["xsum"]),
                         ("roberta-base", [f"glue/{n}" for n in "mnli sst2 mrpc cola qnli qqp rte stsb".split()])):
        for name in tasks:
            config = compose("train", [f"model={model}", f"task={name}", "model.hidden_size=32"])
            if name not in ("e2e", "webnlg"):
                config.task.train_examples = 2
            task = get_class(config.task._target_)(config.task, None, Path(sys.argv[2]))
            tokenizer = load_tokenizer(config.model, Path("unused"))
            load_model(config.model, Path("unused"), config.task.train.dropouts, **task.model_settings())
            revisions = resolved_revision(config.model), task.revision()
            print(name, len(task.train_examples(tokenizer, config.model.kind)), len(task.test_items()), *revisions)
"""


def parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer)
    return buffer.getvalue()


def model_files(family: str, tokenizer: PreTrainedTokenizerBase, folder: Path) -> dict[str, bytes]:
    model: PreTrainedModel = stock_model(family)
    if family == "roberta":
        model = RobertaForMaskedLM(model.config)  # the released one has no classification head
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return {**files, "pytorch_model.bin": b"\x80pickle", "onnx/model.onnx": b"of no use here"}


@pytest.fixture(scope="module")
def repositories(gpt2_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """The three models (small, random) and the two hub data sets (two rows a split) as the hub has them."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gpt2_checkpoint)
    tokenizer.add_special_tokens({"pad_token": "<pad>", "sep_token": "</s>", "cls_token": "<s>"})
    found = {
        f"models/{name}": model_files(family, tokenizer, tmp_path_factory.mktemp(family))
        for family, name in MODELS.items()
    }
    found["datasets/EdinburghNLP/xsum"] = {
        f"default/{split}/0000.parquet": parquet(
            pd.DataFrame({"document": [f"One {split}. Two.", "Three."], "summary": ["1.", "3."], "id": ["a", "b"]})
        )
        for split in ("train", "validation", "test")
    }
    found["datasets/nyu-mll/glue"] = {
        f"{name}/{split}-00000-of-00001.parquet": parquet(
            pd.DataFrame(
                {**{column: [f"{name} {split}.", "C."] for column in columns}, "label": [0, label], "idx": [0, 1]}
            )
        )
        for name, (columns, splits, label) in GLUE.items()
        for split in ("train", *splits, "test")
    }
    return found


@pytest.fixture(scope="module")
def requests(repositories: dict[str, dict[str, bytes]]) -> dict[str, PullRequest]:
    """bart-large has its weights on the hub as a pickle alone; its converter's are a pull request, as BartModel's."""
    files = repositories["models/facebook/bart-large"]
    weights = {name.removeprefix("model."): tensor for name, tensor in load(files.pop("model.safetensors")).items()}
    weights = {name: tensor for name, tensor in weights.items() if name not in ("lm_head.weight", "final_logits_bias")}
    assert "shared.weight" in weights
    return {"models/facebook/bart-large": PullRequest(pinned("bart-large"), {"model.safetensors": save(weights)})}


def pinned(model: str) -> str:
    """The commit that a model's configuration names."""
    return str(OmegaConf.load(ROOT / "configs" / "model" / f"{model}.yaml").revision)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "DELTA_LORA_DATA"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_prefetched_models_and_data_load_offline(
    repositories: dict[str, dict[str, bytes]],
    requests: dict[str, PullRequest],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    home, cache = tmp_path / "hf", tmp_path / "cache"
    web_tasks = []
    if os.environ.get("DELTA_LORA_DATA"):  # E2E and WebNLG are no hub data sets: their cache, with the released files
        real = request.getfixturevalue("real_data")
        shutil.copytree(real / "e2e", cache / "data" / "e2e")
        shutil.copytree(real / "webnlg_challenge_2017", cache / "data" / "webnlg_challenge_2017")
        web_tasks = ["e2e", "webnlg"]
    with hub(repositories, requests) as (address, fetched):
        online = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
        first = run("scripts/prefetch.py", *SWEEP, **online)
        assert first.returncode == 0, first.stderr
        assert len(first.stdout.splitlines()) == 12 + 1 + 12, "each model and data set once; the sum; each fetched"
        weights = [name for name in fetched if name.startswith("models/")]
        assert sum(name.endswith(".safetensors") for name in weights) == 3
        assert not [name for name in weights if name.endswith((".bin", ".onnx"))], "nothing that is not loaded"
        assert not [name for name in fetched if "test-" in name and "glue" in name], "GLUE's test labels are hidden"
        there = [*repositories.items(), *((name, one.files) for name, one in requests.items())]
        asked = sum(len(content) for name, files in there for file, content in files.items()
                    if f"{name}/{file}" in fetched)  # fmt: skip
        (line,) = [line for line in first.stdout.splitlines() if line.startswith("to download in all")]
        assert line.endswith(f"{asked / 1e3:.1f} kB" if asked < 1e6 else f"{asked / 1e6:.2f} MB")
        before = len(fetched)
        again = run("scripts/prefetch.py", *SWEEP, **online)
        assert "to download in all: 0.0 kB" in again.stdout and len(fetched) == before

    snapshot = next((home / "hub").glob("models--*bart-large/snapshots/*/model.safetensors"))
    assert snapshot.is_symlink() and snapshot.resolve().parent.name == "blobs", "the hub's own layout"
    offline = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    loaded = run("-c", OFFLINE, str(ROOT / "configs"), str(cache), *web_tasks, **offline)
    assert loaded.returncode == 0, loaded.stderr
    rows = [line.split() for line in loaded.stdout.splitlines()]
    counts = {name: (int(train), int(test)) for name, train, test, *_ in rows}
    models = {pinned("roberta-base"), CONVERTED, *([pinned("gpt2-medium")] if web_tasks else [])}
    assert {model for *_, model, _ in rows} == models, "the record can say which models these were"
    assert {data for name, *_, data in rows if name not in web_tasks} == {COMMIT}
    assert counts.pop("glue/mnli") == (2, 4)
    if web_tasks:
        assert counts.pop("e2e") == (42061, 630) and counts.pop("webnlg") == (18025, 1862)
    assert set(counts.values()) == {(2, 2)} and len(counts) == 8


def test_an_unreachable_hub_is_one_line(tmp_path: Path) -> None:
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    answer = run("scripts/prefetch.py", "table4", "scale=paper", **nowhere)
    assert answer.returncode == 2
    assert answer.stderr.startswith("error: model roberta-base: could not load FacebookAI/roberta-base at ")
    assert len(answer.stderr.splitlines()) == 1


def test_the_tiny_scale_needs_nothing(tmp_path: Path) -> None:
    answer = run("scripts/prefetch.py", "table1", "scale=tiny", HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert answer.returncode == 0 and "nothing to download" in answer.stdout
