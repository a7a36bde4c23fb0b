"""One cell, as a recipe: load, prepare, train, decode, score, record."""

import json
import logging
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import transformers
from omegaconf import DictConfig, OmegaConf
from torch import nn
from transformers import TrainerCallback

from delta_lora.errors import RunError, UserError
from delta_lora.files import write_whole
from delta_lora.models.load import load_model, resolved_revision
from delta_lora.suite.config.cell import Cell, build_cell
from delta_lora.suite.config.init_from import START
from delta_lora.suite.config.key import start_key
from delta_lora.suite.machine import ranks
from delta_lora.suite.machine.devices import device_name, take_gpu
from delta_lora.suite.machine.environment import environment
from delta_lora.suite.machine.lock import Busy, held
from delta_lora.suite.machine.quiet import quiet_libraries
from delta_lora.suite.machine.resources import check_disk, is_disk_full
from delta_lora.suite.records.phases import PREDICTED, STARTED, TRAINED, finish_phase, finished_phase
from delta_lora.suite.records.records import Run, find_run, outputs, read_run, run_folder, set_aside, write_jsonl
from delta_lora.suite.run.alignment import alignment
from delta_lora.suite.run.decoding import decode
from delta_lora.suite.run.inputs import Inputs, load_inputs
from delta_lora.suite.run.losses import measure_losses
from delta_lora.suite.run.memory import as_memory_allows
from delta_lora.suite.run.precision import resolved_precision
from delta_lora.suite.run.progress import TrainingProgress
from delta_lora.suite.run.results import Predicted, TrainResult
from delta_lora.suite.run.scoring import (
    find_predicted,
    prepare_scores,
    remove_leftovers,
    score_and_record,
    summary,
    wait_for_scores,
)
from delta_lora.suite.run.selection import BestEpoch
from delta_lora.suite.run.similarity import measure
from delta_lora.suite.run.tracking import Tracker
from delta_lora.suite.run.trainer import SuiteTrainer
from delta_lora.suite.run.training import make_trainer, train

log = logging.getLogger(__name__)


def run_cell(config: DictConfig) -> Run | None:
    """Train, decode, score and record one composed configuration; a finished run is returned as it is.

    Of several processes that are asked for the same run, one does it and the others wait, or, with
    ``when_busy=skip``, return None. So does a run with ``score=later``, which ends with its predictions.

    Raises:
        UserError: the configuration or the data are wrong; nothing has been written then.
        RunError: the run had to stop; its last checkpoint is kept.
    """
    cell = build_cell(config)
    folder = run_folder(cell.results_dir, cell.key)
    if (finished := find_finished(cell, folder)) is not None:
        return finished
    try:
        with ExitStack() as stack:  # of several processes rank 0 holds the lock, and the others wait with it
            ranks.on_main(stack.enter_context)(held(folder, cell.name, wait=config.when_busy == "wait"))
            return find_finished(cell, folder) or execute(cell, folder)
    except Busy as busy:
        print(busy, flush=True)
        return None
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise RunError(
            f"{cell.name}: the disk is full ({error}); what is finished is kept in {folder}: free some space, and the "
            "same command goes on from there"
        ) from error


def execute(cell: Cell, folder: Path) -> Run | None:
    """The recipe itself; of an interrupted run, what is left of it. None: its scores are still to come."""
    quiet_libraries()
    take_gpu()
    began = time.time()
    set_foreign_aside(cell, folder)
    predicted = find_predicted(folder)
    if predicted is None:
        print(f"{cell.name}: {cell.schedule.total_steps} steps → {folder}", flush=True)
        prepare_scores(cell)
        inputs = load_inputs(cell)
        open_folder(cell, folder, began)
        tracker = Tracker(cell)
        predicted = as_memory_allows(cell, lambda micro: train_and_predict(cell, inputs, tracker, folder, micro))
    else:
        tracker = Tracker(cell)
    return (wait_for_scores if cell.settings.score == "later" else score_and_record)(cell, folder, predicted, tracker)


def train_and_predict(cell: Cell, inputs: Inputs, tracker: Tracker, folder: Path, micro: int) -> Predicted:
    """Load, prepare, train (``micro`` examples at once) and predict; what the record needs is then on disk."""
    transformers.set_seed(cell.config.seed)
    model = prepare(cell)
    check_disk(folder, model)
    counts = vars(cell.method.counts())
    trainer = make_trainer(cell, model, inputs, folder / "checkpoints", micro)
    callbacks = [*cell.method.callbacks(), tracker, TrainingProgress(cell.name, trainer.effective_batch)]
    callbacks += alignment(cell, trainer)
    if cell.task.generates:
        training = train_once(cell, trainer, callbacks, folder)
        del trainer  # and with it the optimizer's state, before there is decoding
        keep_adapter(cell, folder)
        if cell.measures_loss:
            return keep_predictions(cell, folder, measure_losses(cell, inputs), Predicted(training, counts))
        texts, seconds = decode_items(cell, inputs)
        lines = cell.task.lines(inputs.items, texts)
        return keep_predictions(cell, folder, lines, Predicted(training, counts, decode_seconds=seconds))
    best = BestEpoch(cell, trainer, inputs)
    best.set_damaged_aside()
    training = train_once(cell, trainer, [*callbacks, best], folder)
    epoch, lines = best.copy_to(folder)
    return keep_predictions(cell, folder, lines, Predicted(training, counts, best_epoch=epoch))


def prepare(cell: Cell) -> nn.Module:
    """The pretrained model as the method trains it, from another task's run where ``task.init_from`` names one."""
    config = cell.config
    model = load_model(config.model, cell.cache_dir, config.task.train.dropouts, **cell.task.model_settings())
    prepared = cell.method.prepare(model, cell.spec, cell.schedule)
    if key := start_key(config):
        earlier = run_folder(cell.results_dir, key)
        if read_run(earlier) is None:
            raise UserError(
                f"task.init_from: the record of {earlier} is damaged; the command that made it makes it again"
            )
        cell.method.load_start(earlier / START)
    return prepared


def train_once(cell: Cell, trainer: SuiteTrainer, callbacks: list[TrainerCallback], folder: Path) -> TrainResult:
    """:func:`train`; after an interruption past its end it only loads the last checkpoint."""
    before = find_trained(folder)
    result = train(cell, trainer, callbacks)
    if before is not None and result.only_loaded:
        return before
    if ranks.is_main():
        write_jsonl(folder / "log.jsonl", trainer.state.log_history)
        finish_phase(folder, TRAINED, result.to_json(), ["log.jsonl"])
    return result


@ranks.on_main
def keep_adapter(cell: Cell, folder: Path) -> None:
    """Write the adapter, and how far it has moved each weight (Figure 3)."""
    cell.method.export(folder / "adapter")
    reference = load_model(cell.config.model, cell.cache_dir, cell.config.task.train.dropouts)
    write_whole(folder / "similarity.json", json.dumps(measure(cell.method, reference), indent=1) + "\n")


def decode_items(cell: Cell, inputs: Inputs) -> tuple[list[str], float]:
    """Merge the adapter and generate a text for every item; the texts and the seconds they took."""
    began = time.time()
    model = cell.method.merge()
    sources = [item.input for item in inputs.items]
    texts = decode(model, inputs.tokenizer, sources, cell.config.task, cell.name)
    return texts, round(time.time() - began, 2)


@ranks.on_main
def keep_predictions(cell: Cell, folder: Path, lines: list[dict[str, Any]], predicted: Predicted) -> Predicted:
    """Write the predictions, a test item a line, and what made them; from here on a run is only scored and recorded."""
    write_jsonl(folder / "predictions.jsonl", lines)
    began = (finished_phase(folder, STARTED) or {"began": time.time()})["began"]
    facts = {
        "model_revision": resolved_revision(cell.config.model),
        "data_revision": cell.task.revision(),
        "precision": resolved_precision(cell.train.precision),
    }
    predicted = replace(predicted, seconds=round(time.time() - began, 2), environment=environment() | facts)
    finish_phase(folder, PREDICTED, predicted.to_json(), outputs(folder))
    return predicted


@ranks.on_main
def find_finished(cell: Cell, folder: Path) -> Run | None:
    """The run's record, if it is finished."""
    finished = find_run(cell.results_dir, cell.key)
    if finished is not None:
        remove_leftovers(folder)  # of a process that was killed between its record and its last line
        print(f"{cell.name}: already finished ({summary(finished.metrics)}) in {finished.path}", flush=True)
    return finished


@ranks.on_main
def find_trained(folder: Path) -> TrainResult | None:
    """What an interrupted run's training has left, if it came to its end."""
    facts = finished_phase(folder, TRAINED)
    return None if facts is None else TrainResult.from_json(facts)


@ranks.on_main
def set_foreign_aside(cell: Cell, folder: Path) -> None:
    """Keep a record that this version cannot trust (`read_run` has said why) where nobody takes it for one."""
    if (folder / "run.json").is_file():
        log.warning("%s: kept as %s, the run is done again", cell.name, set_aside(folder / "run.json"))


@ranks.on_main
def open_folder(cell: Cell, folder: Path, began: float) -> None:
    """Make the run's folder, with its configuration for people, the device for plans and when it ``began``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "config.yaml", OmegaConf.to_yaml(cell.config))
    finish_phase(folder, STARTED, {"device": device_name(), "began": began})
