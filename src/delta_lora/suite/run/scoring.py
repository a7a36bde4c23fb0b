"""What is left of a run when its predictions are there: scores and the record, at once or later and elsewhere."""

import logging
import shutil
import threading
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from delta_lora.errors import UserError
from delta_lora.places import place
from delta_lora.suite.config.cell import Cell, build_cell
from delta_lora.suite.machine import ranks
from delta_lora.suite.machine.lock import held
from delta_lora.suite.records.phases import PHASES, PREDICTED, finished_phase
from delta_lora.suite.records.records import Run, read_jsonl, write_record
from delta_lora.suite.run.progress import said_each_minute
from delta_lora.suite.run.results import Predicted
from delta_lora.suite.run.tracking import Tracker
from delta_lora.suite.tables.compare import PairedBootstrap

log = logging.getLogger(__name__)


@ranks.on_main
def prepare_scores(cell: Cell) -> None:
    """Have made, beside what the run does first (a tiny model is pretrained on one core), what its scoring needs."""
    if cell.settings.score == "now" and not cell.measures_loss:
        threading.Thread(target=cell.task.prepare_scoring).start()


@ranks.on_main
def score_and_record(cell: Cell, folder: Path, predicted: Predicted, tracker: Tracker) -> Run:
    """Score the predictions and write the record, which tells of the machine that made them."""
    began = time.time()
    with said_each_minute(cell.name, "scoring"):
        resampler = cell.task.scorer(read_jsonl(folder / "predictions.jsonl"))
        metrics = cell.task.columns_of(resampler.score())
    wall = {"wall_seconds": round(predicted.seconds + time.time() - began, 2)}
    record: dict[str, Any] = {
        "key": cell.key,
        "config": OmegaConf.to_container(cell.config),
        "metrics": metrics,
        "counts": predicted.counts,
        "train": predicted.train_facts() | wall,
        "environment": predicted.environment,
    }
    tracker.finish({**metrics, **predicted.counts})
    run = write_record(folder, record)
    remove_leftovers(folder)
    # The metrics' per-item statistics are at hand now; rendering would have to compute them again.
    with said_each_minute(cell.name, "resampling the scores"):
        PairedBootstrap(lambda _: resampler, cell.cache_dir / "resampled").scores(run)
    print(f"{cell.name}: {summary(metrics)} in {run.train['wall_seconds']:.0f} s", flush=True)
    return run


@ranks.on_main
def wait_for_scores(cell: Cell, folder: Path, predicted: Predicted, tracker: Tracker) -> None:
    """End a run with its predictions (``score=later``): the folder has all that :func:`score_waiting` needs."""
    tracker.finish(predicted.counts)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    print(f"{cell.name}: predicted in {predicted.seconds:.0f} s, to be scored (make scores) in {folder}", flush=True)


def score_waiting(here: DictConfig) -> tuple[list[Run], list[str]]:
    """Score and record every run below ``results_dir`` that has its predictions and no scores; nothing is trained.

    Args:
        here: a resolved configuration, for this machine's ``data_dir``, ``results_dir`` and ``cache_dir``.

    Returns:
        The runs, and for each folder that was passed over, why.
    """
    runs, problems = [], []
    folders = {name: here[name] for name in ("data_dir", "results_dir", "cache_dir")}
    for path in sorted((place("results_dir", here.results_dir) / "runs").glob(f"*/{PHASES}")):
        folder = path.parent
        if (folder / "run.json").is_file() or (predicted := find_predicted(folder)) is None:
            continue
        config = OmegaConf.merge(OmegaConf.load(folder / "config.yaml"), folders, {"score": "now"})
        assert isinstance(config, DictConfig)
        try:
            cell = build_cell(config, to_run=False)
        except UserError as error:
            problems.append(f"{folder} is not scored: {error}")
            continue
        if cell.key != folder.name:
            problems.append(f"{folder} is not scored: its settings and the data here belong to another run, {cell.key}")
            continue
        with held(folder, cell.name, wait=True):
            runs.append(score_and_record(cell, folder, predicted, Tracker(cell)))
    return runs, problems


@ranks.on_main
def find_predicted(folder: Path) -> Predicted | None:
    """What an interrupted run has left, if all its predictions were written."""
    facts = finished_phase(folder, PREDICTED)
    return None if facts is None else Predicted.from_json(facts)


def remove_leftovers(folder: Path) -> None:
    """Delete what a run needs only while it is unfinished."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    (folder / PHASES).unlink(missing_ok=True)


def summary(metrics: dict[str, float]) -> str:
    """``BLEU 69.60, NIST 8.78, …``"""
    return ", ".join(f"{name} {value:.2f}" for name, value in metrics.items())
