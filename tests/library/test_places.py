"""Settings that are folders: what they mean, and what an empty variable means."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.runs import SHORT
from omegaconf import DictConfig

from delta_lora.errors import UserError
from delta_lora.places import place, variable
from delta_lora.suite.config.cell import build_cell
from delta_lora.suite.config.compose import composed, composing


def test_home_and_relative_folders_are_absolute_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert place("results_dir", "~/results") == tmp_path / "home" / "results"
    assert place("results_dir", "results") == tmp_path / "results"
    assert place("DELTA_LORA_RESULTS", "results", tmp_path / "there") == tmp_path / "there" / "results"
    with pytest.raises(UserError, match="cache_dir=~nobody-of-this-name/x"):
        place("cache_dir", "~nobody-of-this-name/x")


def test_a_variable_with_a_tilde_is_the_home_folder(
    short: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    before = build_cell(short(f"cache_dir={tmp_path / 'cache'}")).key
    monkeypatch.setenv("DELTA_LORA_RESULTS", "~/results")
    monkeypatch.setenv("DELTA_LORA_CACHE", "cache")
    model = short().model
    with composing():
        found = composed(["scale=tiny", "logger=none", *SHORT, f"model.path={model.path}", "model.hidden_size=32"])
    cell = build_cell(found)
    assert cell.results_dir == tmp_path / "home" / "results"
    assert cell.cache_dir == tmp_path / "cache"
    assert cell.config.results_dir == "~/results"  # the record keeps what was given
    assert cell.key == before


def test_the_folder_of_a_sweep_is_absolute_for_hydra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra import compose

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DELTA_LORA_RESULTS", "~/results")
    with composing():
        config = compose("train", ["scale=tiny"], return_hydra_config=True)
    assert config.hydra.sweep.dir.startswith(f"{tmp_path}/results/sweeps/")


def test_an_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DELTA_LORA_DATA", "DELTA_LORA_RESULTS", "DELTA_LORA_CACHE"):
        monkeypatch.setenv(name, "")
    with composing():
        config = composed(["scale=tiny"])
    assert config.data_dir is None
    assert (config.results_dir, config.cache_dir) == ("results", "~/.cache/delta-lora")
    assert variable("DELTA_LORA_DATA") is None
