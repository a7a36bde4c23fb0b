"""Air-gapped machines: whole paper-scale runs without a network, and without an attempt to reach one.

A run here has no network interface but the loopback (Linux's network namespaces, where they are allowed); and every
connection and name that any of its Python processes asks for is written down and refused.
"""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from helpers import ROOT
from helpers.hub_server import hub
from helpers.method_models import stock_model
from transformers import AutoTokenizer, RobertaForMaskedLM

pytestmark = pytest.mark.xdist_group("offline")  # fetched once

SHORT = [
    "scale=paper",
    "scale.require_gpu=false",
    "task.train.max_steps=2",
    "task.train.warmup_steps=0",
    "task.train.warmup_ratio=null",
    "task.train.batch_size=2",
    "task.train.micro_batch_size=2",
    "logger=wandb",
    "method=delta-lora",
    "method.start_steps=0",
    "method.rank=2",
    "model.hidden_size=32",
]

# sitecustomize: every Python process imports it first. W&B and Java talk to their own process on this machine.
GUARD = """
import os, sys

def refuse(event, arguments):
    if event == "socket.connect":
        address = arguments[1]
        if not isinstance(address, tuple) or address[0] in ("127.0.0.1", "::1", "localhost"):
            return
    elif event == "socket.getaddrinfo":
        address = arguments[0]
        if address in (None, "", "127.0.0.1", "::1", "localhost", b"127.0.0.1", b"localhost"):
            return
    else:
        return
    with open(os.environ["ATTEMPTS"], "a") as log:
        print(event, address, sys.argv, file=log)
    raise OSError(f"no network: {address}")

sys.addaudithook(refuse)
"""


def parquet(**columns: list[object]) -> bytes:
    buffer = io.BytesIO()
    pd.DataFrame(columns).to_parquet(buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def repositories(gpt2_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """The three models, small and random, XSum and RTE, as the hub has them."""
    tokenizer = AutoTokenizer.from_pretrained(gpt2_checkpoint)
    tokenizer.add_special_tokens({"pad_token": "<pad>", "sep_token": "</s>", "cls_token": "<s>"})
    found = {}
    for family, name in (("roberta", "FacebookAI/roberta-base"), ("bart", "facebook/bart-large")):
        folder, model = tmp_path_factory.mktemp(family), stock_model(family)
        if family == "roberta":
            model = RobertaForMaskedLM(model.config)  # the released one has no classification head
        model.resize_token_embeddings(len(tokenizer))
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        found[f"models/{name}"] = {path.name: path.read_bytes() for path in folder.iterdir()}
    folder = gpt2_checkpoint
    found["models/openai-community/gpt2-medium"] = {path.name: path.read_bytes() for path in folder.iterdir()}
    sentences = ["The pub is near.", "It is cheap.", "It is by the river.", "It is dear."]
    found["datasets/EdinburghNLP/xsum"] = {
        f"default/{split}/0000.parquet": parquet(document=sentences, summary=sentences, id=list("abcd"))
        for split in ("train", "validation", "test")
    }
    found["datasets/nyu-mll/glue"] = {
        f"rte/{split}-00000-of-00001.parquet": parquet(
            sentence1=sentences, sentence2=sentences[::-1], label=[0, 1, 0, 1], idx=[0, 1, 2, 3]
        )
        for split in ("train", "validation")
    }
    return found


def cut_off() -> list[str]:
    """What runs a command with the loopback as its only network; nothing where the system does not allow it."""
    command = ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
        return command
    except (OSError, subprocess.CalledProcessError):
        return []


def run(*arguments: str, before: list[str] | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    left_out = ("DELTA_LORA_DATA", "WANDB_MODE", "WANDB_API_KEY")
    clean = {name: value for name, value in os.environ.items() if name not in left_out}
    return subprocess.run(
        [*(before or []), sys.executable, *arguments],
        cwd=ROOT,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=500,
    )


BRIEF = ["task.decode.beam_size=2", "task.decode.max_new_tokens=8"]
SMALL = ["task.train_examples=4", "task.train.max_length=30"]
TASKS = {
    "e2e": ["model=gpt2-medium", "task.max_train_examples=8", "task.max_test_examples=3", *BRIEF],
    "xsum": ["model=bart-large", "task.train.max_target_length=30", *SMALL, *BRIEF],
    "glue/rte": ["model=roberta-base", "task.init_from=null", *SMALL],
}


# Several fetches by one process: what the script imports takes seconds.
FETCH = """
import json, runpy, sys

for arguments in json.loads(sys.argv[1]):
    sys.argv = ["scripts/prefetch.py", *arguments]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        assert not end.code, (arguments, end.code)
"""


@pytest.fixture(scope="module")
def places(repositories: dict[str, dict[str, bytes]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where everything has been fetched ahead, as environment variables."""
    folder = tmp_path_factory.mktemp("fetched")
    found = {"HF_HOME": str(folder / "hf"), "DELTA_LORA_CACHE": str(folder / "cache")}
    if real := os.environ.get("DELTA_LORA_DATA"):  # E2E's files are on no hub: as they lie in the cache
        shutil.copytree(Path(real) / "e2e", folder / "cache" / "data" / "e2e")
    kept = Path("~/.cache/delta-lora/meteor").expanduser()
    if kept.is_dir():  # METEOR's index takes seconds to make, of files that are here
        shutil.copytree(kept, folder / "cache" / "meteor")
    cells = [[f"task={task}", *overrides] for task, overrides in TASKS.items() if real or task != "e2e"]
    with hub(repositories) as (address, _):
        fetched = run("-c", FETCH, json.dumps(cells), **found, HF_ENDPOINT=address, HF_HUB_OFFLINE="0")
    assert fetched.returncode == 0, fetched.stderr
    return found


@pytest.fixture
def guarded(places: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """An environment whose Python processes write down, in ``attempts``, what they try to reach."""
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(GUARD)
    paths = os.pathsep.join(filter(None, (str(tmp_path / "guard"), os.environ.get("PYTHONPATH"))))
    own = {"PYTHONPATH": paths, "ATTEMPTS": str(tmp_path / "attempts"), "DELTA_LORA_RESULTS": str(tmp_path / "results")}
    return {**places, **own, "HF_HUB_OFFLINE": "1"}


def test_the_guard_sees_what_is_tried(guarded: dict[str, str], tmp_path: Path) -> None:
    tried = run("-c", "import socket; socket.create_connection(('192.0.2.1', 80))", before=cut_off(), **guarded)
    assert "no network: " in tried.stderr and (tmp_path / "attempts").read_text()


@pytest.mark.parametrize("task", TASKS)
def test_a_paper_scale_run_trains_decodes_and_scores_without_a_network(
    guarded: dict[str, str], tmp_path: Path, task: str, request: pytest.FixtureRequest
) -> None:
    """Fetched ahead; then `scripts/train.py`, with W&B as it is by default and all official metrics."""
    if task == "e2e":
        request.getfixturevalue("real_data")
    done = run("scripts/train.py", f"task={task}", *TASKS[task], *SHORT, before=cut_off(), **guarded)
    assert done.returncode == 0, done.stdout + done.stderr
    attempts = tmp_path / "attempts"
    assert not attempts.exists(), attempts.read_text()
    (record,) = (tmp_path / "results").glob("runs/*/run.json")
    wanted = {"e2e": "METEOR", "xsum": "Rouge-Sum", "glue/rte": "accuracy"}[task]
    assert f'"{wanted}"' in record.read_text()
    assert list((tmp_path / "results" / "wandb").glob("offline-run-*")) and "W&B could not" not in done.stdout
