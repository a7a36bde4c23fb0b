"""What every task has from its base class: where its data come from, and which data a run's key stands for."""

import json
import pkgutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from delta_lora import tasks
from delta_lora.errors import UserError
from delta_lora.metrics.base import Resampler
from delta_lora.suite.config.cell import build_cell
from delta_lora.tasks.base import Item, spread
from delta_lora.tasks.generation import GenerationTask


class Json(GenerationTask):
    """A stranger's task: JSON files, and nothing that is not asked for."""

    def files(self, folder: Path) -> list[Path]:
        return sorted(folder.glob("*.json"))

    def read_train(self, folder: Path) -> list[tuple[str, str]]:
        return [(row["in"], row["out"]) for row in json.loads((folder / "train.json").read_text())]

    def read_test(self, folder: Path) -> list[Item]:
        return [
            Item(i, row["in"], [row["out"]]) for i, row in enumerate(json.loads((folder / "test.json").read_text()))
        ]

    def resampler(self, lines: Sequence[Mapping[str, Any]]) -> Resampler:
        raise NotImplementedError


@pytest.fixture
def stranger(composed: Callable[..., DictConfig], tmp_path: Path) -> Callable[..., DictConfig]:
    """The configuration of :class:`Json`, with its data in ``data_dir``."""
    folder = tmp_path / "data" / "mine"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        (folder / f"{split}.json").write_text(json.dumps([{"in": f"a {i}", "out": f"b {i}"} for i in range(64)]))

    def build(*overrides: str) -> DictConfig:
        lines = ["~task.files.url", "~task.files.content_sha256", "task.files.folder=mine"]
        small = ["task.train.warmup_steps=2", "task.per_method.delta_lora.start_steps=2", "scale.require_gpu=false"]
        return composed("task=webnlg", f"task._target_={__name__}.Json", *lines, *small, *overrides)

    return build


def test_other_local_data_are_another_key(stranger: Callable[..., DictConfig], tmp_path: Path) -> None:
    config = stranger(f"data_dir={tmp_path / 'data'}")
    before = build_cell(config).key
    assert build_cell(config).key == before
    file = tmp_path / "data" / "mine" / "test.json"
    file.write_text(file.read_text().replace("b 3", "c 3"))
    assert build_cell(config).key != before


def test_a_task_without_a_download_asks_for_its_folder(stranger: Callable[..., DictConfig], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="task=webnlg has nothing to download; give the folder that holds its mine"):
        build_cell(stranger("data_dir=null")).task.fetch()
    with pytest.raises(UserError, match="data_dir has no data of webnlg"):
        build_cell(stranger(f"data_dir={tmp_path}"))


def test_a_part_of_the_test_set_is_spread_over_all_of_it(stranger: Callable[..., DictConfig], tmp_path: Path) -> None:
    """64 sorted inputs: the first 4 would be one end of them."""
    task = build_cell(stranger(f"data_dir={tmp_path / 'data'}", "task.max_test_examples=4")).task
    assert [(item.id, item.input) for item in task.test_items()] == [(i, f"a {i}") for i in (0, 16, 32, 48)]
    for size in range(1, 12):
        for most in range(1, 14):
            chosen = spread(list(range(size)), most)
            gaps = [after - before for before, after in pairwise([*chosen, size])]
            assert len(chosen) == min(size, most)
            assert chosen[0] == 0
            assert max(gaps) - min(gaps) <= 1, (size, most, chosen)
    assert spread([1, 2, 3], None) == [1, 2, 3]


def test_settings_are_checked_without_what_trains_or_reads() -> None:
    names = ", ".join(f"delta_lora.tasks.{module.name}" for module in pkgutil.iter_modules(tasks.__path__))
    heavy = ("torch", "transformers", "evaluate", "datasets", "pandas", "pyarrow")
    code = f"import sys, {names}\nprint(*[name for name in {heavy} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == []
