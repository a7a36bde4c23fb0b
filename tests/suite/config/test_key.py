"""What a run's key has of what lies outside its configuration: the weights of a local model, the data, the start."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from delta_lora.errors import UserError
from delta_lora.models.load import resolved_revision
from delta_lora.suite.config.cell import build_cell


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A folder with what looks like a checkpoint."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "README.md"):
        (folder / name).write_text(name)
    return folder


def local_key(composed: Callable[..., DictConfig], folder: Path) -> str:
    return build_cell(composed("scale=tiny", f"model.path={folder}")).key


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "vocab.txt"])
def test_other_files_in_a_local_models_folder_are_another_run(
    composed: Callable[..., DictConfig], checkpoint: Path, name: str
) -> None:
    config = composed("scale=tiny", f"model.path={checkpoint}")
    key, revision = build_cell(config).key, resolved_revision(config.model)
    assert local_key(composed, checkpoint) == key
    (checkpoint / name).write_text("trained on")
    assert local_key(composed, checkpoint) != key
    assert revision is not None and revision.startswith("local, ") and resolved_revision(config.model) != revision


def test_what_no_model_is_loaded_from_is_not_in_the_key(composed: Callable[..., DictConfig], checkpoint: Path) -> None:
    key = local_key(composed, checkpoint)
    (checkpoint / "README.md").write_text("more words")
    (checkpoint / "optimizer.pt").write_bytes(b"1")
    assert local_key(composed, checkpoint) == key


def test_a_file_of_a_local_model_that_cannot_be_read_is_told(
    composed: Callable[..., DictConfig], checkpoint: Path
) -> None:
    (checkpoint / "vocab.json").symlink_to(checkpoint / "nowhere")
    with pytest.raises(UserError, match=r"model.path=.* cannot be read \(.*vocab.json.*\); give a folder"):
        local_key(composed, checkpoint)
