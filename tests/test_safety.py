"""Nothing from elsewhere runs code, no secret is written or printed, no damaged download is read (docs/safety.md)."""

import hashlib
import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT
from helpers.runs import interrupted
from omegaconf import DictConfig

from delta_lora.errors import UserError
from delta_lora.files import download, sha256_of
from delta_lora.hub import HubFiles, from_hub
from delta_lora.methods.base import read_tensors
from delta_lora.models.checkpoint import FILES, check_safetensors
from delta_lora.models.load import load_model, load_tokenizer
from delta_lora.suite.cli import guard
from delta_lora.suite.config.cell import build_cell
from delta_lora.suite.records.checkpoints import SEAL
from delta_lora.suite.records.records import run_folder
from delta_lora.suite.run.recipe import run_cell

SECRETS = {"HF_TOKEN": "hf_ThisIsATokenOfTheHub12345", "WANDB_API_KEY": "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c"}


class Hostile:
    """Its pickle creates a file when it is loaded."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> Any:
        return Path.touch, (self.proof,)


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    """A file that appears when hostile code has run."""
    return tmp_path / "proof"


@pytest.fixture
def hostile(proof: Path) -> bytes:
    """A pickle that really runs: loaded by pickle itself, it leaves the proof."""
    content = pickle.dumps(Hostile(proof))
    pickle.loads(content)
    assert proof.exists()
    proof.unlink()
    return content


@pytest.fixture
def checkpoint(gpt2_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of a small checkpoint, to be tampered with."""
    return Path(shutil.copytree(gpt2_checkpoint, tmp_path / "checkpoint"))


def model_of(path: Path) -> DictConfig:
    return DictConfig(
        {"name": "m", "kind": "causal", "path": str(path), "revision": None, "hidden_size": 32, "head_modules": []}
    )


def refused(checkpoint: Path) -> str:
    """The one line with which a checkpoint is refused, as model and as tokenizer."""
    for load in (
        lambda: load_tokenizer(model_of(checkpoint), Path("no")),
        lambda: load_model(model_of(checkpoint), Path("no"), {}),
    ):
        with pytest.raises(UserError) as error:
            load()
        assert "\n" not in str(error.value)
    return str(error.value)


def test_a_pickle_is_refused_with_the_reason_and_what_to_do(checkpoint: Path, hostile: bytes, proof: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "pytorch_model.bin").write_bytes(hostile)
    told = refused(checkpoint)
    assert "only safetensors weights are loaded, since a pickle can run code when it is read" in told
    assert "only pytorch_model.bin" in told and "save_pretrained(FOLDER)" in told
    assert not proof.exists()


def test_a_pickle_by_another_name_is_refused_too(checkpoint: Path, hostile: bytes, proof: Path, tmp_path: Path) -> None:
    (checkpoint / "model.safetensors").write_bytes(hostile)
    assert "model.safetensors is damaged or no safetensors file" in refused(checkpoint)
    shutil.copy2(checkpoint / "model.safetensors", checkpoint / "pytorch_model.bin")
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "model-1.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    (checkpoint / "model.safetensors.index.json").write_text('{"weight_map": {"wte.weight": "pytorch_model.bin"}}')
    assert "names the weights 'pytorch_model.bin'; it can name model*.safetensors only" in refused(checkpoint)

    (tmp_path / "start.safetensors").write_bytes(hostile)
    with pytest.raises(UserError, match="no safetensors file"):
        read_tensors(tmp_path / "start.safetensors")
    (tmp_path / "adapter_model.bin").write_bytes(hostile)
    with pytest.raises(UserError, match=r"has only adapter_model.bin"):
        check_safetensors(tmp_path, "adapter_model", "adapter_model*.bin")
    assert not proof.exists()


@pytest.mark.usefixtures("quick_scores")
def test_a_pickle_in_a_sealed_checkpoint_does_not_run(
    short: Callable[..., DictConfig], hostile: bytes, proof: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transformers reads a checkpoint's optimizer, scheduler and random state with ``weights_only=True``."""
    config = short("method=lora", "task.train.save_steps=4")
    interrupted(config, 6, monkeypatch)
    folder = run_folder(Path(config.results_dir), build_cell(config).key) / "checkpoints" / "checkpoint-4"
    whole = {name: (folder / name).read_bytes() for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", SEAL)}
    for name in whole:
        if name == SEAL:
            continue
        (folder / name).write_bytes(hostile)
        digests = json.loads(whole[SEAL])
        (folder / SEAL).write_text(json.dumps({**digests, name: sha256_of(folder / name)}))
        with pytest.raises(UserError, match="checkpoint-4 holds something else than tensors") as error:
            run_cell(config)
        assert "\n" not in str(error.value)
        assert not proof.exists()
        (folder / name).write_bytes(whole[name])
    (folder / SEAL).write_bytes(whole[SEAL])
    assert run_cell(config).train["resumed_from_step"] == 4


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("kind", ["gpt2", "of-its-own"])
def test_a_model_with_code_of_its_own_is_refused_and_the_code_does_not_run(
    checkpoint: Path, proof: Path, file: str, kind: str
) -> None:
    (checkpoint / "own.py").write_text(f"open({str(proof)!r}, 'w')\n")
    auto = {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M", "AutoTokenizer": ["own.T", "own.T"]}
    for name in {"config.json", file}:
        content = json.loads((checkpoint / name).read_text()) | {"model_type": kind}
        (checkpoint / name).write_text(json.dumps(content | ({"auto_map": auto} if name == file else {})))
    assert f"{file} asks for code of its own (auto_map), which is never run here" in refused(checkpoint)
    assert not proof.exists()


@pytest.mark.parametrize(
    "override", ["+model.trust_remote_code=true", "+trust_remote_code=true", "+task.trust_remote_code=true"]
)
def test_there_is_no_setting_that_allows_it(composed: Callable[..., DictConfig], override: str) -> None:
    with pytest.raises(UserError, match=r"there is no setting .*trust_remote_code"):
        build_cell(composed("scale=tiny", override))


def test_a_record_from_elsewhere_can_name_a_task_only(composed: Callable[..., DictConfig]) -> None:
    """A run's record is scored by the class that it names: without a check that is any class of any package."""
    for target in ("subprocess.Popen", "os.system", "nowhere.Task", "Task"):
        with pytest.raises(UserError, match=r"is no (class|task)"):
            build_cell(composed("scale=tiny", f"task._target_={target}"))


def test_weights_that_are_not_all_there_are_refused_rather_than_drawn_at_random(checkpoint: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(checkpoint / "model.safetensors")
    lacking = {name: tensor for name, tensor in tensors.items() if "h.1.mlp.c_fc.weight" not in name}
    save_file(lacking, checkpoint / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        UserError, match=r"1 tensors are missing or of another size, for one transformer.h.1.mlp.c_fc.weight"
    ):
        load_model(model_of(checkpoint), Path("no"), {})


# --- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick_scores")
def test_no_token_is_written_or_printed(
    short: Callable[..., DictConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A whole run with its tokens set: records, log, config.yaml, all that W&B keeps, and the terminal."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    caplog.set_level(logging.DEBUG)
    run = run_cell(short("method=lora", "logger=wandb", "logger.mode=offline"))
    files = [path for path in run.path.parents[1].rglob("*") if path.is_file()]
    assert {"run.json", "config.yaml", f"run-{run.key}.wandb"} <= {path.name for path in files}
    printed = "".join(capfd.readouterr()) + caplog.text
    for value in SECRETS.values():
        assert not [path for path in files if value.encode() in path.read_bytes()]
        assert value not in printed


@pytest.mark.parametrize(
    "override",
    [
        "task.files.url=https://me:password@example.org/",
        "model.path=https://token@example.org/model",
        "task.files.url='https://example.org/a?token=abc'",
        "logger.project=hf_ThisIsATokenOfTheHub12345",
        "method.label=${oc.env:WANDB_API_KEY}",
    ],
)
def test_a_secret_in_the_configuration_is_refused_without_being_told(
    composed: Callable[..., DictConfig], override: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRETS["WANDB_API_KEY"])
    with pytest.raises(UserError, match="holds a password or a token") as error:
        build_cell(composed("scale=tiny", "logger=wandb", override))
    assert not any(secret in str(error.value) for secret in ("password@", "token@", "abc", *SECRETS.values()))


def test_an_error_that_quotes_a_secret_is_told_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRETS["HF_TOKEN"])
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://me:proxy-password@127.0.0.1:9")

    def fail() -> None:
        raise OSError(f"403 for https://me:page-password@h/x?access_token=abcdef with {SECRETS['HF_TOKEN']}")

    def tell() -> None:
        try:
            fail()
        except OSError as error:
            raise UserError(f"could not load: {error}") from error

    assert guard(tell) == 2
    assert capsys.readouterr().err == "error: could not load: 403 for https://…@h/x?… with …\n"
    assert guard(lambda: print(download("http://x.invalid/", tmp_path, {"a.csv": "0" * 64}))) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: could not download http://x.invalid/a.csv") and "proxy-password" not in told


# --- downloads --------------------------------------------------------------------------------------------------------


def in_cache(home: Path, repository: str, source: Path) -> Path:
    """A model in the hub's cache as the hub's client leaves it: content by digest, and a snapshot of links."""
    root, commit = home / f"models--{repository.replace('/', '--')}", "0123456789abcdef0123456789abcdef01234567"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    snapshot = root / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (root / "blobs").mkdir()
    for path in source.iterdir():
        content = path.read_bytes()
        large = path.suffix == ".safetensors"
        name = (
            hashlib.sha256(content).hexdigest()
            if large
            else hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        )
        (root / "blobs" / name).write_bytes(content)
        (snapshot / path.name).symlink_to(Path("../../blobs") / name)
    return snapshot


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_changed_byte_in_the_hubs_cache_is_found_before_the_model_is_used(
    gpt2_checkpoint: Path, tmp_path: Path, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    snapshot = in_cache(tmp_path, "owner/small", gpt2_checkpoint)
    files = HubFiles("owner/small", "model", "main", FILES)
    assert from_hub(files) == snapshot
    blob = (snapshot / file).resolve()
    content = bytearray(blob.read_bytes())
    content[-3] ^= 1
    blob.write_bytes(content)
    os.utime(blob, ns=(1, 1))
    model = DictConfig({**model_of(snapshot), "path": "owner/small", "revision": "main"})
    with pytest.raises(UserError) as error:
        load_model(model, tmp_path, {})
    assert str(error.value).startswith(f"{snapshot / file} is damaged")
    assert "delete both, and the next run downloads them again" in str(error.value)
    blob.unlink()
    with pytest.raises(UserError, match=f"{file} points to no file|has no {file}"):
        load_model(model, tmp_path, {})


def test_the_adapter_of_a_run_is_read_from_safetensors_alone(tmp_path: Path, hostile: bytes, proof: Path) -> None:
    """scripts/generate.py on a run from elsewhere, whose adapter is a pickle under a seal that holds."""
    from helpers.table_records import grid_of, write_run

    (cell,) = grid_of(tmp_path, "table=table1", "scale=tiny", "method=lora").cells
    adapter = run_folder(tmp_path, cell.key) / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter_model.bin").write_bytes(hostile)
    write_run(tmp_path, cell, {"BLEU": 50.0}, [])
    command = [sys.executable, "scripts/generate.py", cell.key, "x", "--results-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: only safetensors weights are loaded"), done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not proof.exists()
