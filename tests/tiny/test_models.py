"""Miniature models: stock checkpoints, made once, never half, and named by their recipe."""

import logging
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from helpers.models import gpt2_config
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel

from delta_lora.errors import UserError
from delta_lora.tiny import architectures, circuits, models, pretrain

SHORT = replace(models.MODELS["gpt2-tiny"], steps=3, bpe_documents=2000)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    models.checkpoint("gpt2-tiny", directory, SHORT)
    return directory


@pytest.fixture
def folder(cache: Path) -> Path:
    return models.checkpoint("gpt2-tiny", cache, SHORT)


def test_stock_transformers_loads_the_checkpoint(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert isinstance(model, GPT2LMHeadModel)
    assert 1_000_000 <= model.num_parameters() <= 3_000_000
    assert tokenizer.bos_token == tokenizer.eos_token == "<|endoftext|>"
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert torch.isfinite(model(**tokenizer("A hotel.", return_tensors="pt")).logits).all()


@pytest.mark.parametrize(
    "text", [" Café Adriatic, £20-25", "name : The Vaults | price : more than £30", "日本 🙂\n\ttab"]
)
def test_tokenizer_gives_back_every_text(folder: Path, text: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_finished_checkpoint_is_not_made_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_make", lambda *_: pytest.fail("pretrained again"))
    assert models.checkpoint("gpt2-tiny", cache, SHORT).is_dir()


def test_same_recipe_gives_the_same_weights(folder: Path, tmp_path: Path) -> None:
    again = models.checkpoint("gpt2-tiny", tmp_path, SHORT)
    assert again.name == folder.name
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_pretraining_leaves_the_callers_randomness_and_threads(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(5)
    models.checkpoint("gpt2-tiny", tmp_path, SHORT)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("name", ["gpt2-tiny", "bart-tiny"])
def test_gradients_computed_beside_the_backward_pass_are_autograds_own(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(models.MODELS[name], steps=3, bpe_documents=2000, length=40)
    found = []
    for beside in (pretrain.weight_gradients_beside, lambda model: nullcontext(lambda: None)):
        monkeypatch.setattr(pretrain, "weight_gradients_beside", beside)
        torch.manual_seed(0)
        model, _, batches = architectures.STARTS[name](recipe)
        loss = pretrain.train(model, batches, recipe, lambda: None)
        assert not any("forward" in vars(module) for module in model.modules())
        found.append((loss, model.state_dict()))
    (loss, weights), (expected, plain) = found
    assert loss == expected
    assert all(torch.equal(weights[key], plain[key]) for key in plain), "not bit for bit"


def test_another_recipe_is_another_folder(cache: Path) -> None:
    assert replace(SHORT, steps=4).key != SHORT.key
    assert replace(SHORT, seconds=9).key == SHORT.key, "the estimate in the message decides nothing"


@pytest.mark.parametrize("damage", ["truncate", "remove", "unfinished"])
def test_a_damaged_folder_is_set_aside_and_made_again(damage: str, tmp_path: Path) -> None:
    folder = models.checkpoint("gpt2-tiny", tmp_path, SHORT)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    if damage == "truncate":
        weights.write_bytes(whole[:1000])
    elif damage == "remove":
        weights.unlink()
    else:
        (folder / "pretraining.json").unlink()
    assert models.checkpoint("gpt2-tiny", tmp_path, SHORT) == folder
    assert weights.read_bytes() == whole
    assert [path for path in tmp_path.iterdir() if "damaged" in path.name]


def test_an_interrupted_pretraining_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(models.pretrain, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        models.checkpoint("gpt2-tiny", tmp_path, SHORT)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_second_asker_waits_for_the_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with FileLock(tmp_path / f".gpt2-tiny-{SHORT.key}.lock"), caplog.at_level(logging.WARNING):
        asker = threading.Thread(target=models.checkpoint, args=("gpt2-tiny", tmp_path, SHORT))
        asker.start()
        asker.join(0.5)
        assert asker.is_alive() and "another process" in caplog.text
    asker.join()
    assert (tmp_path / f"gpt2-tiny-{SHORT.key}" / "model.safetensors").is_file()


def test_unknown_model_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gpt2-tiny"):
        models.checkpoint("gpt3", tmp_path)


def test_the_initial_weights_copy_what_they_have_read() -> None:
    torch.manual_seed(0)
    size, length = 500, 20
    model = GPT2LMHeadModel(gpt2_config(vocab_size=size, n_embd=128, n_positions=1024))
    circuits.write_gpt2(model.eval())
    once = torch.randint(1, size, (8, length))
    with torch.no_grad():
        predicted = model(torch.cat([once, once], dim=1)).logits[:, length:-1].argmax(-1)
    assert (predicted == once[:, 1:]).float().mean() > 0.7  # one of the four heads looks two tokens back
