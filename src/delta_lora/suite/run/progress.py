"""How far a long run is: one plain line a minute where no terminal shows a bar (nohup, Slurm, a notebook)."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

INTERVAL = 60.0  # seconds between two lines


def watched() -> bool:
    """Whether somebody sees bars: they are drawn on standard error."""
    return sys.stderr.isatty()


def duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``1 h 22 min``."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@dataclass
class Progress:
    """Says on standard output, at most every ``INTERVAL`` seconds, how far something countable is.

    Args:
        name: of the run.
        total: how much there is to do.
        done: how much of it was done before.
        clock: in seconds.
    """

    name: str
    total: int
    done: int = 0
    clock: Callable[[], float] = time.monotonic
    first: int = field(init=False)
    began: float = field(init=False)
    said: float = field(init=False)

    def __post_init__(self) -> None:
        self.first = self.done
        self.began = self.said = self.clock()

    def update(self, done: int, line: Callable[[float], str]) -> None:
        """So much is done now.

        Args:
            done: of ``total``.
            line: what to say, given how many are done a second; the time left is added.
        """
        self.done, now = done, self.clock()
        if now - self.said < INTERVAL or watched() or done >= self.total:
            return
        self.said = now
        rate = (done - self.first) / max(now - self.began, 1e-9)
        left = f", {duration((self.total - done) / rate)} left" if rate > 0 else ""
        print(f"{self.name}: {line(rate)}{left}", flush=True)

    def inputs(self, doing: str, done: int) -> None:
        """:meth:`update` of test inputs: ``decoding, 128 of 630 inputs, 3.1 inputs/s, 2 min left``."""
        self.update(done, lambda rate: f"{doing}, {done:,} of {self.total:,} inputs, {rate:.3g} inputs/s")


class TrainingProgress(TrainerCallback):
    """Says of a training: ``step 1,200 of 26,290, loss 2.31, 41 examples/s, 1 h 22 min left``.

    Args:
        name: of the run.
        batch_size: examples of a step.
    """

    def __init__(self, name: str, batch_size: int) -> None:
        self.name = name
        self.batch_size = batch_size

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Start to count, from the checkpoint's step."""
        self.progress = Progress(self.name, state.max_steps, state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Another step; the loss is the last that was logged."""

        def line(rate: float) -> str:
            losses = [row["loss"] for row in state.log_history if "loss" in row]
            loss = f", loss {losses[-1]:.3g}" if losses else ""
            speed = f"{rate * self.batch_size:.3g} examples/s"
            return f"step {state.global_step:,} of {state.max_steps:,}{loss}, {speed}"

        self.progress.update(state.global_step, line)


@contextmanager
def said_each_minute(name: str, doing: str) -> Iterator[None]:
    """Say, every ``INTERVAL`` seconds, that the block is still at work, which cannot tell how far it is."""
    began, done = time.monotonic(), threading.Event()

    def say() -> None:
        while not done.wait(INTERVAL):
            if not watched():
                print(f"{name}: {doing}, for {duration(time.monotonic() - began)} so far", flush=True)

    thread = threading.Thread(target=say, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
