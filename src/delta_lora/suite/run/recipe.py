"""One cell, as a recipe: data, model, method, train, decode, score, record."""

import gc
import json
import logging
import platform
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from omegaconf import DictConfig, OmegaConf
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from delta_lora.errors import RunError, UserError
from delta_lora.models.load import load_model, load_tokenizer, resolved_revision
from delta_lora.suite.config.cell import Cell, build_cell
from delta_lora.suite.config.init_from import START, start_key
from delta_lora.suite.machine import ranks
from delta_lora.suite.machine.devices import device_name, take_gpu
from delta_lora.suite.machine.lock import Busy, held
from delta_lora.suite.machine.resources import check_disk, is_disk_full, is_out_of_memory, smaller
from delta_lora.suite.records.phases import FILE as PHASES
from delta_lora.suite.records.phases import PREDICTED, STARTED, TRAINED, finish_phase, finished_phase
from delta_lora.suite.records.records import (
    Run,
    outputs,
    read_jsonl,
    read_run,
    run_folder,
    set_aside,
    write_jsonl,
    write_record,
    write_text,
)
from delta_lora.suite.run.decoding import decode
from delta_lora.suite.run.selection import BestEpoch
from delta_lora.suite.run.similarity import measure
from delta_lora.suite.run.tracking import Tracker
from delta_lora.suite.run.training import train
from delta_lora.suite.tables.compare import PairedBootstrap
from delta_lora.tasks.base import Item

log = logging.getLogger(__name__)
PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets", "evaluate", "tokenizers", "numpy")


def run_cell(config: DictConfig) -> Run | None:
    """Train, decode, score and record one composed configuration; a finished run is returned as it is.

    Of several processes that are asked for the same run, one does it and the others wait, or, with
    ``when_busy=skip``, return None.

    Raises:
        UserError: the configuration or the data are wrong; nothing has been written then.
        RunError: the run had to stop; its last checkpoint is kept.
    """
    cell = build_cell(config)
    folder = run_folder(cell.results_dir, cell.key)
    if (finished := ranks.from_main(lambda: find_finished(cell, folder))) is not None:
        return finished
    try:
        with ExitStack() as stack:  # of several processes rank 0 holds the lock, and the others wait with it
            ranks.from_main(lambda: stack.enter_context(held(folder, cell.name, wait=config.when_busy == "wait")))
            return ranks.from_main(lambda: find_finished(cell, folder)) or execute(cell, folder)
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


def find_finished(cell: Cell, folder: Path) -> Run | None:
    """The run's record, if it is finished."""
    finished = read_run(folder)
    if finished is not None:
        remove_leftovers(folder)  # of a process that was killed between its record and its last line
        print(f"{cell.name}: already finished ({summary(finished.metrics)}) in {folder}", flush=True)
    return finished


def execute(cell: Cell, folder: Path) -> Run:
    """The recipe itself: train and predict, unless an interrupted run has done so; score; record."""
    quiet_libraries()
    take_gpu()
    started = time.time()
    ranks.from_main(lambda: set_foreign_aside(cell, folder))
    predicted = ranks.from_main(lambda: finished_phase(folder, PREDICTED))
    if predicted is not None:
        tracker = Tracker(cell)
    else:
        predicted, tracker = train_and_predict(cell, folder)
    return ranks.from_main(lambda: score_and_record(cell, folder, predicted, tracker, started))


def set_foreign_aside(cell: Cell, folder: Path) -> None:
    """Keep a record that this version cannot trust (`read_run` has said why) where nobody takes it for one."""
    if (folder / "run.json").is_file():
        log.warning("%s: kept as %s, the run is done again", cell.name, set_aside(folder / "run.json"))


def set_damaged_aside(cell: Cell, evaluation: BestEpoch, checkpoints: Path) -> None:
    """Where what was kept of the best epoch has changed, start again: its model is nowhere else."""
    if not evaluation.intact():
        aside = set_aside(checkpoints)
        log.warning("%s: the best epoch's files are damaged: kept in %s, training starts again", cell.name, aside)


def score_and_record(cell: Cell, folder: Path, predicted: dict[str, Any], tracker: Tracker, started: float) -> Run:
    """What is left when the predictions are there."""
    config, training, counts = cell.config, predicted["training"], predicted["counts"]
    lines = read_jsonl(folder / "predictions.jsonl")
    resampler = cell.task.resampler(lines)
    metrics = cell.task.columns_of(resampler.score())
    training["wall_seconds"] = round(time.time() - started, 2)
    record: dict[str, Any] = {
        "key": cell.key,
        "config": OmegaConf.to_container(config),
        "metrics": metrics,
        "counts": counts,
        "train": training,
        "environment": environment(resolved_revision(config.model), cell.task.revision()),
    }
    tracker.finish({**metrics, **counts})
    run = write_record(folder, record)
    remove_leftovers(folder)
    # The metrics' per-item statistics are at hand now; rendering would have to compute them again.
    PairedBootstrap(lambda _: resampler, cell.cache_dir / "resampled").scores(run)
    print(f"{cell.name}: {summary(metrics)} in {training['wall_seconds']:.0f} s", flush=True)
    return run


def train_and_predict(cell: Cell, folder: Path) -> tuple[dict[str, Any], Tracker]:
    """Leave a trained run's files in its folder; return what its record says of training and parameters.

    Where memory runs out, the micro-batch is halved and the run goes on from its last checkpoint.
    """
    config = cell.config
    print(f"{cell.name}: {cell.schedule.total_steps} steps → {folder}", flush=True)
    with ranks.main_first():  # what is not there yet is downloaded, or made, once
        tokenizer = load_tokenizer(config.model, cell.cache_dir)
        examples = cell.task.train_examples(tokenizer, config.model.kind)
        items = cell.task.test_items()
    folder.mkdir(parents=True, exist_ok=True)
    if ranks.is_main():
        write_text(folder / "config.yaml", OmegaConf.to_yaml(config))
        finish_phase(folder, STARTED, {"device": device_name()})
    tracker = Tracker(cell)
    batch = config.task.train.batch_size // ranks.count()
    micro: int = config.task.train.micro_batch_size or batch
    while True:
        try:
            return attempt(cell, folder, tracker, tokenizer, examples, items, micro), tracker
        except Exception as error:
            if not is_out_of_memory(error) or (less := smaller(micro, batch)) is None:
                raise
            if ranks.count() > 1:  # the others wait for this process's gradients and cannot be told
                raise RunError(
                    f"{cell.name}: {micro} examples at once are too many for the memory; under torchrun the size is "
                    f"not found by trying: give task.train.micro_batch_size={less}, or less"
                ) from error
            log.warning("%s: %d examples at once are too many for the memory; trying %d", cell.name, micro, less)
            micro = less
        gc.collect()
        torch.cuda.empty_cache()


def attempt(
    cell: Cell,
    folder: Path,
    tracker: Tracker,
    tokenizer: PreTrainedTokenizerBase,
    examples: list[dict[str, Any]],
    items: Sequence[Item],
    micro: int,
) -> dict[str, Any]:
    """Load, prepare, train and predict with this micro-batch."""
    config, checkpoints = cell.config, folder / "checkpoints"
    transformers.set_seed(config.seed)
    model = load_model(config.model, cell.cache_dir, config.task.train.dropouts, **cell.task.model_settings())
    check_lengths(model, examples)
    trained = cell.method.prepare(model, cell.spec, cell.schedule)
    if start := start_key(config):
        if read_run(run_folder(cell.results_dir, start)) is None:
            raise UserError(
                f"task.init_from: the record of {run_folder(cell.results_dir, start)} is damaged; the command that "
                "made it makes it again"
            )
        cell.method.load_start(run_folder(cell.results_dir, start) / START)
    ranks.from_main(lambda: check_disk(folder, trained))
    counts = vars(cell.method.counts())
    callbacks = [*cell.method.callbacks(), tracker]
    if not cell.task.generates:
        evaluation = BestEpoch(cell, items, cell.task.encode_test(items, tokenizer), checkpoints / "best")
        ranks.from_main(lambda: set_damaged_aside(cell, evaluation, checkpoints))
        training = train_once(cell, folder, trained, tokenizer, examples, callbacks, micro, evaluation)
        best, kept = ranks.from_main(evaluation.best)
        training["best_epoch"] = best["epoch"]
        predictions = best["predictions"]
        if ranks.is_main():
            if (kept / "adapter").is_dir():
                shutil.copytree(kept / "adapter", folder / "adapter", dirs_exist_ok=True)
            if config.task.save_start:
                shutil.copy2(kept / START, folder / START)
    else:
        training = train_once(cell, folder, trained, tokenizer, examples, callbacks, micro)
        if ranks.is_main():
            cell.method.export(folder / "adapter")
            reference = load_model(config.model, cell.cache_dir, config.task.train.dropouts)
            write_text(folder / "similarity.json", json.dumps(measure(cell.method, reference), indent=1) + "\n")
            del reference
        predictions = decode_items(cell, tokenizer, items, training)
    history, predicted = training.pop("log_history"), {"training": training, "counts": counts}
    if ranks.is_main():
        write_jsonl(folder / "log.jsonl", history)
        write_jsonl(folder / "predictions.jsonl", cell.task.lines(items, predictions))
        finish_phase(folder, PREDICTED, predicted, outputs(folder))
    return predicted


def check_lengths(model: PreTrainedModel, examples: list[dict[str, Any]]) -> None:
    """The model has a position for every token of the longest example.

    Raises:
        UserError: it has not.
    """
    # RoBERTa's positions start after the padding token's id.
    unused = model.config.pad_token_id + 1 if model.config.model_type == "roberta" else 0
    room = model.config.max_position_embeddings - unused
    longest = max(len(example["input_ids"]) for example in examples)
    if longest > room:
        raise UserError(
            f"an example has {longest} tokens, the model has {room} positions; give task.train.max_length={room}"
        )


def train_once(
    cell: Cell,
    folder: Path,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    examples: list[dict[str, Any]],
    callbacks: list[TrainerCallback],
    micro: int,
    evaluation: BestEpoch | None = None,
) -> dict[str, Any]:
    """:func:`train`; after an interruption past its end it only loads the last checkpoint."""
    before = ranks.from_main(lambda: finished_phase(folder, TRAINED))
    training = train(
        cell, model, tokenizer, examples, callbacks, folder / "checkpoints", evaluation, micro_batch_size=micro
    )
    if before is not None and training["resumed_from_step"] == training["steps"]:
        return before
    if ranks.is_main():
        finish_phase(folder, TRAINED, training)
    return training


def remove_leftovers(folder: Path) -> None:
    """Delete what a run needs only while it is unfinished."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    (folder / PHASES).unlink(missing_ok=True)


def decode_items(
    cell: Cell, tokenizer: PreTrainedTokenizerBase, items: Sequence[Item], training: dict[str, Any]
) -> list[str]:
    """Merge the adapter and generate a text for every item; notes the time in ``training``."""
    started, task = time.time(), cell.config.task
    plain = cell.method.merge()
    inputs = [item.input for item in items]
    texts = decode(plain, tokenizer, inputs, task.decode, cell.spec.kind, task.train.max_length)
    training["decode_seconds"] = round(time.time() - started, 2)
    return texts


def quiet_libraries() -> None:
    """Leave the terminal to what concerns the run: no advice from libraries, no progress bars where nobody watches."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    transformers.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()
        datasets.disable_progress_bars()


def summary(metrics: dict[str, float]) -> str:
    """``BLEU 69.60, NIST 8.78, …``"""
    return ", ".join(f"{name} {value:.2f}" for name, value in metrics.items())


def environment(model_revision: str | None, data_revision: str) -> dict[str, Any]:
    """What the run ran on: versions, device, commit, and the commits of the model and the data."""
    return {
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "device": device_name(),
        "platform": platform.platform(),
        "git_commit": git_commit(),
        "model_revision": model_revision,
        "data_revision": data_revision,
    }


def git_commit() -> str | None:
    """Commit of the working tree, with ``+`` where its code or settings differ from it; None outside a checkout."""
    root = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", ":/src", ":/configs", ":/scripts"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changes else "")
