"""The one trainer: ``transformers.Trainer`` with the paper's settings, from the last checkpoint where there is one."""

import logging
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn
from transformers import (
    DataCollatorForSeq2Seq,
    DataCollatorWithPadding,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback

from delta_lora.errors import Interrupted, UserError
from delta_lora.suite.config.cell import Cell
from delta_lora.suite.machine import ranks
from delta_lora.suite.machine.resources import KEPT_CHECKPOINTS, StopSignal, peak_memory
from delta_lora.suite.records.checkpoints import Seal, last_intact_checkpoint
from delta_lora.suite.records.divergence import diverged
from delta_lora.suite.run.inputs import Inputs
from delta_lora.suite.run.precision import training_in, uses_bf16
from delta_lora.suite.run.progress import watched
from delta_lora.suite.run.results import TrainResult
from delta_lora.suite.run.trainer import SuiteTrainer
from delta_lora.tasks.generation import IGNORED

log = logging.getLogger(__name__)


def make_trainer(
    cell: Cell, model: nn.Module, inputs: Inputs, checkpoints: Path, micro_batch_size: int
) -> SuiteTrainer:
    """The trainer of a run, with the task's settings.

    Args:
        cell: the run.
        model: prepared by the method.
        inputs: the training examples, and the tokenizer for padding.
        checkpoints: their folder.
        micro_batch_size: examples at once in a process; gradients accumulate to the task's batch size.
    """
    torch.manual_seed(cell.config.seed)
    trainer = SuiteTrainer(
        model=model,
        args=training_arguments(cell, checkpoints, micro_batch_size),
        train_dataset=inputs.examples,
        data_collator=(
            # given the model, it adds the decoder inputs, which label smoothing would keep BART from making
            DataCollatorForSeq2Seq(inputs.tokenizer, model=model, label_pad_token_id=IGNORED)
            if cell.task.generates
            else DataCollatorWithPadding(inputs.tokenizer)
        ),
        processing_class=inputs.tokenizer,
        seed=cell.config.seed,
        grouped=cell.train.group_by_length,
        decay_all=cell.train.decay == "all",
    )
    trainer.remove_callback(PrinterCallback)  # the suite prints its own lines
    # RoBERTa's and BART's losses are means of the micro-batch, which the trainer has to weigh.
    trainer.model_accepts_loss_kwargs = cell.spec.kind == "causal"
    return trainer


def train(cell: Cell, trainer: SuiteTrainer, callbacks: Sequence[TrainerCallback]) -> TrainResult:
    """Train, from the last checkpoint where there is one.

    Args:
        cell: the run.
        trainer: from :func:`make_trainer`.
        callbacks: called in this order, before a checkpoint is sealed.

    Raises:
        RunError: the loss is no number.
        Interrupted: a signal to stop; a checkpoint has been written.
    """
    folder = Path(str(trainer.args.output_dir))
    for callback in callbacks:
        trainer.add_callback(callback)
    trainer.add_callback(Seal())  # last: it covers what the callbacks before it have added to a checkpoint
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    if ranks.rank() > 0:  # dropout of its own; the weights are those of rank 0
        torch.manual_seed(cell.config.seed + 1_000_003 * ranks.rank())
    checkpoint = ranks.on_main(last_intact_checkpoint)(folder)
    if checkpoint is not None:
        log.warning("%s: going on from %s", cell.name, checkpoint)
    own: Any = trainer.model
    first = 0 if checkpoint is None else int(checkpoint.name.split("-")[1])
    base = training_in(own, cell.method, cell.spec, bf16=trainer.args.bf16)
    with StopSignal() as stop, base:
        trainer.callback_handler.callbacks.insert(0, stop)  # before those that act on what it decides
        try:
            output = trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        except UnpicklingError as error:  # torch reads the optimizer's state with weights_only=True, and runs nothing
            raise UserError(
                f"{checkpoint} holds something else than tensors and numbers, which is not read; delete that folder, "
                "and the run goes on from the one before it"
            ) from error
    # accelerate has put autocast around the model's forward: after full fine-tuning this very model decodes
    trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    step, seconds = trainer.state.global_step, output.metrics["train_runtime"]
    if stop.received and step < trainer.state.max_steps:
        raise Interrupted(
            f"{cell.name}: stopped by {stop.received} after step {step} of {trainer.state.max_steps}, with a "
            f"checkpoint in {folder}; the same command goes on from there"
        )
    if (ends := diverged(trainer.state.log_history)) is not None:
        log.warning(
            "%s: the loss is %.3g at the end, and was %.3g at step %d: the training has diverged, and its "
            "scores say only that; give a lower learning rate than %g",
            cell.name,
            ends.last,
            ends.first,
            ends.step,
            cell.method.learning_rate,
        )
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line and line["step"] > 1]
    return TrainResult(
        steps=step,
        seconds=round(seconds, 2),
        resumed_from_step=first,
        examples_per_second=round((step - first) * trainer.effective_batch / max(seconds, 1e-9), 2),
        peak_memory_bytes=max(ranks.gather(peak_memory())),
        final_loss=losses[-1] if losses else output.training_loss,
        micro_batch_size=trainer.args.train_batch_size,
        processes=ranks.count(),
    )


def training_arguments(cell: Cell, checkpoints: Path, micro_batch_size: int) -> TrainingArguments:
    """The paper's settings as the Trainer's: AdamW (0.9, 0.999), linear schedule with warm-up."""
    settings = cell.train
    cuda = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(checkpoints),
        per_device_train_batch_size=micro_batch_size,
        gradient_accumulation_steps=settings.batch_size // (micro_batch_size * ranks.count()),
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
        adam_epsilon=settings.adam_epsilon,
        optim="adamw_torch_fused",
        bf16=uses_bf16(settings.precision),
        use_cpu=not cuda,
        save_strategy="steps",
        save_steps=settings.save_steps,
        save_total_limit=KEPT_CHECKPOINTS,
        logging_steps=settings.logging_steps,
        logging_first_step=True,  # the loss of the untrained model (`diverged`)
        seed=cell.config.seed,
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=not watched(),
        dataloader_pin_memory=cuda,
        # Every method uses each parameter that it trains, and keeps no buffers that change.
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
    )
