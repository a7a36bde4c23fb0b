"""Trainings in turn: each in a process of its own, each step of it when the parent says so."""

import multiprocessing
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from delta_lora.errors import RunError, UserError
from delta_lora.suite.machine.quiet import quiet_libraries

PATIENCE = 60.0  # seconds for a process to clean up


@dataclass(frozen=True)
class Step:
    """One optimizer step: what it cost, when it was on the machine's clock, how many tokens went through the model."""

    seconds: float
    began: float
    ended: float
    tokens: int


class Gate:
    """A training's end of the pipe. Everything between :meth:`wait` and :meth:`passed` is the step.

    Args:
        connection: to the parent.
        device: "cpu", where a step costs the process's own processor time, which what else runs hardly disturbs; or
            "cuda", where it costs wall time until the GPU is done.
    """

    def __init__(self, connection: Connection, device: str) -> None:
        self.connection = connection
        self.device = device
        self.tokens = 0

    def count(self, model: nn.Module) -> None:
        """From now on count the tokens that ``model`` is given, padding included."""

        def hook(module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
            self.tokens += named["input_ids"].numel()

        model.register_forward_pre_hook(hook, with_kwargs=True)

    def wait(self) -> None:
        """Say that the next step can begin, and wait until it may."""
        self.connection.send(None)
        self.connection.recv()
        self.tokens, self.began, self.clock = 0, time.monotonic(), self.seconds()

    def passed(self) -> None:
        """The step is done."""
        seconds = self.seconds() - self.clock
        self.connection.send(Step(seconds, self.began, time.monotonic(), self.tokens))

    def seconds(self) -> float:
        """The clock by which a step costs."""
        if self.device == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()


class Gated(TrainerCallback):
    """A Trainer's steps go through the gate: data, collation, both passes, optimizer, schedule and callbacks."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        """Count this model's tokens, and wait for the first step."""
        self.gate.count(model)
        self.gate.wait()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """A step is done; the next begins when it may."""
        self.gate.passed()
        if state.global_step < state.max_steps:
            self.gate.wait()


class Side:
    """A training in a process of its own, as its parent sees it.

    Args:
        name: for messages.
        training: a function of a module, which takes a :class:`Gate` and ``arguments``, and trains through it.
        device: as for :class:`Gate`.
    """

    def __init__(self, name: str, training: Callable[..., None], device: str, *arguments: Any) -> None:
        self.name = name
        spawning = multiprocessing.get_context("spawn")
        self.connection, theirs = spawning.Pipe()
        self.process = spawning.Process(target=child, args=(training, theirs, device, arguments), daemon=True)
        self.process.start()
        theirs.close()

    def receive(self) -> Any:
        """What the training says next.

        Raises:
            UserError: its input is wrong.
            RunError: it failed; its traceback is on standard error.
        """
        try:
            said = self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            raise RunError(
                f"{self.name} ended before its last step (exit code {self.process.exitcode}; −9: the machine has too "
                "little memory for it)"
            ) from None
        if isinstance(said, UserError | RunError):
            raise said
        return said

    def ready(self) -> None:
        """Wait until it could make a step."""
        self.receive()

    def step(self) -> Step:
        """Let it make one, once it is :meth:`ready`."""
        self.connection.send(None)
        step: Step = self.receive()
        return step

    def end(self) -> None:
        """Its process ends: after its last step, or where it waits for one, by itself, which removes its folders."""
        self.connection.close()
        self.process.join(PATIENCE)
        self.process.kill()
        self.process.join()


def child(training: Callable[..., None], connection: Connection, device: str, arguments: Sequence[Any]) -> None:
    """What the process of a side does."""
    quiet_libraries()
    try:
        training(Gate(connection, device), *arguments)
    except UserError as error:
        connection.send(error)
    except (EOFError, BrokenPipeError):
        return  # nobody waits for another step
    except Exception as error:
        traceback.print_exc()
        connection.send(RunError(f"{type(error).__name__}: {' '.join(str(error).split())}"))


def race(sides: Mapping[str, Side], steps: Mapping[str, int]) -> dict[str, list[Step]]:
    """All sides step by step in turn, A B C A B C …, never two at once.

    Each makes one step first that does not count: it allocates. A side with fewer steps takes part in as many of the
    rounds, evenly spread.

    Args:
        sides: by name.
        steps: by name, of each side, that count.

    Returns:
        By name, the steps that count, in order.
    """
    rounds, done = max(steps.values()), {name: list[Step]() for name in sides}
    for side in sides.values():
        side.ready()
    for side in sides.values():
        side.step()
        side.ready()
    for turn in range(rounds):
        for name, side in sides.items():
            if turn * steps[name] // rounds < (turn + 1) * steps[name] // rounds:
                done[name].append(side.step())
                if len(done[name]) < steps[name]:
                    side.ready()
    return done
