"""The one trainer: ``transformers.Trainer`` with the paper's settings and an order of data that survives a resume."""

import errno
import itertools
import logging
import os
import resource
import shutil
import sys
import time
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import (
    DataCollatorForSeq2Seq,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback

from delta_lora.errors import Interrupted, UserError
from delta_lora.suite.config.cell import Cell
from delta_lora.suite.machine import ranks
from delta_lora.suite.machine.resources import KEPT_CHECKPOINTS, StopSignal, check_finite, is_disk_full
from delta_lora.suite.records.checkpoints import Seal, last_intact_checkpoint
from delta_lora.suite.run.batches import EpochSampler, MicroBatches
from delta_lora.suite.run.selection import BestEpoch
from delta_lora.tasks.generation import IGNORED

log = logging.getLogger(__name__)


class DiskFull(OSError):
    """A checkpoint that some process could not write; every process raises it."""

    def __init__(self) -> None:
        super().__init__(errno.ENOSPC, os.strerror(errno.ENOSPC))


class SuiteTrainer(Trainer):
    """Trainer with :class:`MicroBatches`, and with examples/s and peak memory in its logs.

    A step's loss is the mean over the target tokens (classification: the examples) of the whole effective batch,
    however it is cut into micro-batches and shared by processes.
    """

    def __init__(self, *args: Any, seed: int, grouped: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.order_seed = seed
        self.grouped = grouped
        self.clock = (time.perf_counter(), 0)
        self.shares: list[float] = []  # of the micro-batches of the step at work, in its loss

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The micro-batches of this process."""
        examples: Any = self.train_dataset
        lengths = [len(example["input_ids"]) for example in examples]
        steps = -(-len(lengths) // self.effective_batch)
        order = EpochSampler(
            lengths, self.effective_batch, self.order_seed, lambda: self.state.global_step // steps, self.grouped
        )
        return DataLoader(
            examples,
            batch_sampler=MicroBatches(order, self.args.train_batch_size, ranks.rank(), ranks.count()),
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )

    @property
    def effective_batch(self) -> int:
        """Examples of an optimizer step."""
        return self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The Trainer's own; a process that the last step of an epoch leaves without examples takes one at weight 0."""
        own = list(itertools.islice(epoch_iterator, num_batches))
        examples: Any = self.train_dataset
        idle = [self.data_collator([dict(examples[0])]) for _ in range(num_batches - len(own))]
        if self.model_accepts_loss_kwargs:  # the model's loss is a sum over targets, divided by the step's
            for batch in idle:
                batch["labels"].fill_(IGNORED)
        else:  # the model's loss is the micro-batch's mean
            targets = [int(batch["labels"].ne(IGNORED).sum()) for batch in own]
            total = sum(ranks.gather(sum(targets)))
            # DistributedDataParallel takes the mean over the processes, where this needs the sum.
            self.shares = [ranks.count() * number / total for number in targets] + [0.0] * len(idle)
        return super().get_batch_samples(iter([*own, *idle]), num_batches, device)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The Trainer's own, weighed by the micro-batch's share of the step's targets."""
        loss: Any = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if not self.model_accepts_loss_kwargs:
            # The Trainer divides by the number of micro-batches, which the share has done already.
            loss = loss * (self.shares.pop(0) * self.current_gradient_accumulation_steps)
        return loss

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """The Trainer's own, but a loss that is no number stops the run."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        folder = Path(str(self.args.output_dir))
        if not bool(torch.isfinite(loss)):
            scheduler: Any = self.lr_scheduler
            check_finite(
                float(loss), self.state.global_step, scheduler.get_last_lr()[0], last_intact_checkpoint(folder)
            )
        return loss

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """The Trainer's own, complete when it returns: each process writes a file of its own."""
        full = False
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError) as error:
            if not is_disk_full(error):
                raise
            full = True
        if any(ranks.gather(full)):
            raise DiskFull

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        """The Trainer's own; where the disk is full the run goes on without the checkpoint, and what callbacks add."""
        try:
            super()._maybe_log_save_evaluate(*args, **kwargs)
        except (OSError, RuntimeError) as error:
            everyones = isinstance(error, DiskFull) or ranks.count() == 1
            if not (is_disk_full(error) and everyones):
                raise
            if ranks.is_main():
                folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
                shutil.rmtree(folder, ignore_errors=True)
                log.warning("the disk is full: no checkpoint at step %d; training goes on", self.state.global_step)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add examples/s since the last log and the peak memory in bytes."""
        now, (then, step) = time.perf_counter(), self.clock
        if self.state.global_step > step:
            logs["examples_per_second"] = (self.state.global_step - step) * self.effective_batch / (now - then)
            self.clock = (now, self.state.global_step)
        logs["peak_memory_bytes"] = peak_memory()
        super().log(logs, start_time)


def train(
    cell: Cell,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    examples: list[dict[str, Any]],
    callbacks: list[TrainerCallback],
    folder: Path,
    evaluation: BestEpoch | None = None,
    *,
    micro_batch_size: int,
) -> dict[str, Any]:
    """Train, from the last checkpoint where there is one.

    Args:
        cell: the run.
        model: prepared by the method.
        tokenizer: for padding.
        examples: from ``task.train_examples``.
        callbacks: the method's and the tracker's.
        folder: for checkpoints.
        evaluation: scores every epoch and keeps the best (classification); None keeps the last.
        micro_batch_size: examples at once in a process; gradients accumulate to the task's batch size.

    Returns:
        What the record says of the training: steps, seconds and examples_per_second (since ``resumed_from_step``, 0
        for an undisturbed run), peak_memory_bytes (of the process that needed most), final_loss, micro_batch_size,
        processes and the log history.

    Raises:
        RunError: the loss is no number.
        Interrupted: a signal to stop; a checkpoint has been written.
    """
    settings = cell.config.task.train
    torch.manual_seed(cell.config.seed)
    trainer = SuiteTrainer(
        model=model,
        args=training_arguments(cell, folder, micro_batch_size),
        train_dataset=examples,
        data_collator=(
            # given the model, it adds the decoder inputs, which label smoothing would keep BART from making
            DataCollatorForSeq2Seq(tokenizer, model=model, label_pad_token_id=IGNORED)
            if cell.task.generates
            else DataCollatorWithPadding(tokenizer)
        ),
        processing_class=tokenizer,
        callbacks=callbacks,
        seed=cell.config.seed,
        grouped=settings.group_by_length,
    )
    if evaluation is not None:
        evaluation.trainer = trainer
        trainer.add_callback(evaluation)
    trainer.remove_callback(PrinterCallback)  # the suite prints its own lines
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    # RoBERTa's and BART's losses are means of the micro-batch, which the trainer has to weigh.
    trainer.model_accepts_loss_kwargs = cell.spec.kind == "causal"
    trainer.add_callback(Seal())  # last: it covers what the callbacks before it have added to a checkpoint
    if ranks.rank() > 0:  # dropout of its own; the weights are those of rank 0
        torch.manual_seed(cell.config.seed + 1_000_003 * ranks.rank())
    checkpoint = ranks.from_main(lambda: last_intact_checkpoint(folder))
    if checkpoint is not None:
        log.warning("%s: going on from %s", cell.name, checkpoint)
    start = 0 if checkpoint is None else int(checkpoint.name.split("-")[1])
    with StopSignal() as stop:
        trainer.callback_handler.callbacks.insert(0, stop)  # before those that act on what it decides
        try:
            result = trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        except UnpicklingError as error:  # torch reads the optimizer's state with weights_only=True, and runs nothing
            raise UserError(
                f"{checkpoint} holds something else than tensors and numbers, which is not read; delete that folder, "
                "and the run goes on from the one before it"
            ) from error
    step, seconds = trainer.state.global_step, result.metrics["train_runtime"]
    if stop.received and step < trainer.state.max_steps:
        raise Interrupted(
            f"{cell.name}: stopped by {stop.received} after step {step} of {trainer.state.max_steps}, with a "
            f"checkpoint in {folder}; the same command goes on from there"
        )
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return {
        "steps": step,
        "seconds": round(seconds, 2),
        "resumed_from_step": start,
        "examples_per_second": round((step - start) * settings.batch_size / max(seconds, 1e-9), 2),
        "peak_memory_bytes": max(ranks.gather(peak_memory())),
        "final_loss": losses[-1] if losses else result.training_loss,
        "micro_batch_size": micro_batch_size,
        "processes": ranks.count(),
        "log_history": trainer.state.log_history,
    }


def training_arguments(cell: Cell, folder: Path, micro: int) -> TrainingArguments:
    """The paper's settings as the Trainer's: AdamW (0.9, 0.999, 1e-8), linear schedule with warm-up."""
    settings = cell.config.task.train
    cuda = torch.cuda.is_available()
    bf16 = settings.precision == "bf16" or (
        settings.precision == "auto" and cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    )
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=settings.batch_size // (micro * ranks.count()),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        learning_rate=cell.method.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=cell.schedule.warmup_steps,
        weight_decay=settings.weight_decay,
        label_smoothing_factor=settings.label_smoothing,
        max_grad_norm=settings.max_grad_norm,
        adam_beta1=0.9,
        adam_beta2=0.999,
        adam_epsilon=1e-8,
        optim="adamw_torch_fused",
        bf16=bf16,
        use_cpu=not cuda,
        save_strategy="steps",
        save_steps=settings.save_steps,
        save_total_limit=KEPT_CHECKPOINTS,
        logging_steps=settings.logging_steps,
        seed=cell.config.seed,
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=not sys.stderr.isatty(),
        dataloader_pin_memory=cuda,
        # Every method uses each parameter that it trains, and keeps no buffers that change.
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
    )


def peak_memory() -> int:
    """Peak memory in bytes: the GPU's allocator where there is one, else the process's resident size."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
