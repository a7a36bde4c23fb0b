"""A model whose weights lie on the hub as a pickle alone: the hub's own conversion of that very commit, or one line."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.hub_server import COMMIT, CONVERTED, PullRequest, hub
from huggingface_hub import constants
from omegaconf import DictConfig

from delta_lora.errors import UserError
from delta_lora.hub import from_hub
from delta_lora.models.hub import cached_folder, hub_files

NAME = "models/owner/name"
MODEL = DictConfig({"name": "m", "path": "owner/name", "revision": "main"})
PICKLE = {NAME: {"config.json": b"{}", "pytorch_model.bin": b"\x80pickle"}}
REQUEST = PullRequest(COMMIT, {"model.safetensors": b"weights"})


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The hub's client with a cache of its own."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield tmp_path


def at(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Let the client ask there."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")


def test_the_hubs_conversion_is_loaded_and_known_without_asking_again(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cached_folder(MODEL) is None
    with hub(PICKLE, {NAME: REQUEST}) as (address, fetched):
        at(monkeypatch, address)
        files = hub_files(MODEL)
        assert files.revision == CONVERTED
        folder = from_hub(files)
        assert (folder / "model.safetensors").read_bytes() == b"weights" and folder.name == CONVERTED
        assert not [name for name in fetched if name.endswith(".bin")]
    at(monkeypatch, "http://127.0.0.1:9")  # nobody there
    assert hub_files(MODEL) == files and cached_folder(MODEL) == folder
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert from_hub(hub_files(MODEL)) == folder


@pytest.mark.parametrize(
    "request_of",
    [
        None,
        replace(REQUEST, parent="0" * 40),  # of an older commit
        replace(REQUEST, author="somebody"),
        replace(REQUEST, title="Better weights"),
    ],
)
def test_any_other_pull_request_is_none(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, request_of: PullRequest | None
) -> None:
    with hub(PICKLE, {} if request_of is None else {NAME: request_of}) as (address, fetched):
        at(monkeypatch, address)
        with pytest.raises(UserError, match=r"owner/name at main has its weights as pytorch_model.bin alone, and the"):
            hub_files(MODEL)
    assert fetched == [] and not list(empty_cache.iterdir())


def test_safetensors_of_the_repositorys_own_come_first(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = {NAME: {**PICKLE[NAME], "model.safetensors": b"its own"}}
    with hub(both, {NAME: REQUEST}) as (address, _):
        at(monkeypatch, address)
        assert hub_files(MODEL).revision == "main"
        assert (from_hub(hub_files(MODEL)) / "model.safetensors").read_bytes() == b"its own"


def test_a_name_that_the_hub_has_none_of_is_one_line(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, "http://127.0.0.1:9")
    model = DictConfig({**MODEL, "path": "owner/name/more"})
    assert cached_folder(model) is None
    with pytest.raises(UserError, match="could not load owner/name/more at main from the hub: Repo id must be"):
        hub_files(model)
