"""Runs that are short, scored without Java, kept elsewhere, or made to die."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from delta_lora.metrics.base import ItemMeans
from helpers import ROOT

METHODS = sorted(path.stem for path in (ROOT / "configs" / "method").glob("*.yaml"))

SHORT = [
    "scale=tiny",
    "task.max_train_examples=96",
    "task.max_test_examples=6",
    "task.train.batch_size=8",
    "task.train.epochs=2",
    "task.train.learning_rate=0.02",
    "task.train.warmup_steps=2",
    "task.train.save_steps=5",
    "task.train.logging_steps=4",
    "task.per_method.delta_lora.start_steps=3",
    "task.decode.beam_size=2",
    "task.decode.max_new_tokens=8",
]


class Bleu(ItemMeans):
    """Mean sentence BLEU: a metric suite that needs no Java."""

    def __init__(self, lines: Sequence[Mapping[str, Any]]) -> None:
        import sacrebleu

        scores = [
            sacrebleu.sentence_bleu(line["prediction"], line["references"], lowercase=True).score for line in lines
        ]
        super().__init__(["BLEU"], [[score] for score in scores])


def score_quickly(setattr: Callable[[Any, str, Any], None] = setattr) -> None:
    """Mean sentence BLEU instead of all five metrics, whose two Java programs take longer than these runs do."""
    from delta_lora.tasks.e2e import E2E

    setattr(E2E, "resampler", lambda self, lines: Bleu(lines))
    setattr(E2E, "prepare_scoring", lambda self: None)


def elsewhere(config: DictConfig, folder: Path) -> DictConfig:
    """The same run, with its records in another folder."""
    copy = config.copy()
    copy.results_dir = str(folder)
    return copy


class Died(Exception):
    """What ends a run without warning, in this process."""


def interrupted(config: DictConfig, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the cell until it dies, without a word, after ``step`` optimizer steps."""
    from transformers import TrainerCallback

    from delta_lora.suite.config.cell import build_cell
    from delta_lora.suite.records.records import run_folder
    from delta_lora.suite.run import recipe as suite_cell

    class DieAt(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == step:
                raise Died

    original = suite_cell.train

    def dying(cell: Any, trainer: Any, callbacks: Any) -> Any:
        return original(cell, trainer, [*callbacks, DieAt()])

    with monkeypatch.context() as patch:
        patch.setattr(suite_cell, "train", dying)
        with pytest.raises(Died):
            suite_cell.run_cell(config)
    assert not (run_folder(Path(config.results_dir), build_cell(config).key) / "run.json").exists()
