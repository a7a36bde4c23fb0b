"""``transformers.Trainer`` with the suite's order of data, its loss, its logs, and a full disk that costs no run."""

import errno
import itertools
import logging
import os
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import Trainer

from delta_lora.suite.machine import ranks
from delta_lora.suite.machine.resources import check_finite, is_disk_full, peak_memory
from delta_lora.suite.records.checkpoints import last_intact_checkpoint
from delta_lora.suite.run.batches import EpochSampler, MicroBatches
from delta_lora.suite.run.targets import at_targets
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

    def __init__(self, *args: Any, seed: int, grouped: bool, decay_all: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.decay_all = decay_all
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

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """The Trainer's own, which leaves out biases and layer norms; or all."""
        if self.decay_all:
            return [name for name, _ in model.named_parameters()]
        return super().get_decay_parameter_names(model)

    @property
    def effective_batch(self) -> int:
        """Examples of an optimizer step."""
        return self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The Trainer's own; a process that the last step of an epoch leaves without examples takes one at weight 0.

        None where the run has made its last step, within an epoch: the Trainer would make one more after resuming.
        """
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return [], None
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
        """The Trainer's own, of logits at targets alone, weighed by the micro-batch's share of the step's targets."""
        own: Any = self.model
        with at_targets(own, inputs) as batch:
            loss: Any = super().compute_loss(model, batch, return_outputs, num_items_in_batch)
        if not self.model_accepts_loss_kwargs:
            # The Trainer divides by the number of micro-batches, which the share has done already.
            loss = loss * (self.shares.pop(0) * self.current_gradient_accumulation_steps)
        return loss

    def floating_point_ops(self, inputs: Any) -> int:
        """None are counted: no record has them, and to count the model's parameters anew takes 2 % of a small step."""
        return 0

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
