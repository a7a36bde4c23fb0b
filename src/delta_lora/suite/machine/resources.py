"""What a run meets while it trains: too little memory, a full disk, numbers that explode, a signal to stop."""

import errno
import logging
import math
import resource
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from delta_lora.errors import RunError, UserError
from delta_lora.suite.machine import ranks

KEPT_CHECKPOINTS = 2
log = logging.getLogger(__name__)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the GPU's or the CPU's memory did not suffice."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def is_disk_full(error: BaseException) -> bool:
    """No space, or no quota, left; safetensors and torch wrap the system's error in their own."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or any(text in str(error) for text in ("No space left on device", "Disk quota exceeded"))


def smaller(micro: int, batch: int) -> int | None:
    """The largest micro-batch of at most half of ``micro`` that divides ``batch``; None where ``micro`` is 1."""
    return next((size for size in range(micro // 2, 0, -1) if batch % size == 0), None)


def check_disk(folder: Path, model: nn.Module) -> None:
    """Room for the checkpoints of a run.

    A checkpoint holds each trained parameter and AdamW's two moments of it; one is written before the oldest goes.

    Raises:
        UserError: there is less than that; with both numbers.
    """
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    needed = (KEPT_CHECKPOINTS + 1) * 3 * trained
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"the run's checkpoints need {needed / 1e9:.2f} GB, and {folder} has {free / 1e9:.2f} GB free; free some, "
            "or set results_dir to a larger disk"
        )


def check_finite(loss: float, step: int, learning_rate: float, checkpoint: Path | None) -> None:
    """The loss is a number.

    Raises:
        RunError: it is not; with the step, the learning rate and the last good checkpoint.
    """
    if not math.isfinite(loss):
        kept = f"the last good checkpoint is {checkpoint}" if checkpoint else "there is no checkpoint yet"
        raise RunError(
            f"the loss is {loss} at step {step + 1} (learning rate {learning_rate:.3g}); {kept}; lower "
            "method.learning_rate, clip with task.train.max_grad_norm, or give task.train.precision=fp32"
        )


def peak_memory() -> int:
    """Peak memory in bytes: the GPU's allocator where there is one, else the process's resident size."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class StopSignal(TrainerCallback):
    """The first Ctrl-C, or SIGTERM, ends the training after the step at work, with a checkpoint; a second one at once.

    Where a queue's own handler waits for a signal (submitit: SIGUSR2, before Slurm takes the machine away), that
    signal too first leads to a checkpoint, and then to the handler, which puts the job back into the queue. SIGTERM
    is there Slurm's notice that it will kill the job after a grace time, and put it back itself if it was pre-empted:
    it leads to a checkpoint, and the training uses the time that is left.

    Use it as a context around ``Trainer.train``.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self.before: dict[int, Any] = {}
        self.requeue: Callable[[], Any] | None = None
        self.save = False

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            queue = [n for n in (signal.SIGUSR1, signal.SIGUSR2) if callable(signal.getsignal(n))]
            self.before[signal.SIGINT] = signal.signal(signal.SIGINT, self.receive)
            self.before[signal.SIGTERM] = signal.signal(signal.SIGTERM, self.note if queue else self.receive)
            for number in queue:
                self.before[number] = signal.signal(number, self.hand_on)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Note the signal; restore what a second one would do."""
        self.received = signal.Signals(number).name
        if ranks.count() == 1:  # torchrun passes Ctrl-C on to processes that the terminal has told already
            self.__exit__()
            log.warning("%s: a checkpoint is being written; once more to stop at once", self.received)

    def note(self, number: int, frame: FrameType | None) -> None:
        """A checkpoint, and nothing else."""
        self.save = True
        log.warning("%s: a checkpoint is being written; the training goes on", signal.Signals(number).name)

    def hand_on(self, number: int, frame: FrameType | None) -> None:
        """Note the queue's signal; its handler is called once there is a checkpoint."""
        handler = self.before[number]
        self.requeue = lambda: handler(number, None)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """After the queue's signal and the checkpoint: back into the queue."""
        if self.requeue is not None and state.global_step > 0:
            self.__exit__()
            self.requeue()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """After a signal, to whichever process: save, and, unless a queue goes on with it, stop."""
        if ranks.count() > 1 and (told := ranks.highest(int(signal.Signals[self.received]) if self.received else 0)):
            self.received = signal.Signals(told).name
            log.warning("%s: a checkpoint is being written", self.received)
        if self.received or self.requeue or self.save:
            control.should_save, self.save = True, False
        if self.received:
            control.should_training_stop = True
