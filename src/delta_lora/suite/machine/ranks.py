"""One run on several processes, as ``torchrun`` starts them: who does what alone, what all must know, who speaks.

In a process that was started alone every function answers at once: it is rank 0 of 1.
"""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch
from accelerate import PartialState
from torch import distributed
from torch.distributed import PrefixStore, Store

from delta_lora.errors import UserError

P = ParamSpec("P")
T = TypeVar("T")
PATIENCE = timedelta(
    days=7
)  # the others wait while rank 0 waits for another process's lock, downloads, pretrains, scores
_store: Store | None = None  # torchrun's own: it outlives a process that fails


def start() -> None:
    """Join the processes that ``torchrun`` has started with this one; alone, do nothing.

    Objects and flags travel over gloo also where gradients travel over NCCL, so that nobody waits on a GPU. From now on
    only rank 0 writes to standard output.

    Raises:
        UserError: more processes on this machine than GPUs.
    """
    global _store
    if "LOCAL_RANK" not in os.environ or distributed.is_initialized():
        return
    cuda = torch.cuda.is_available()
    store, rank, size = next(distributed.rendezvous("env://", timeout=PATIENCE))
    _store = PrefixStore("delta-lora", store)
    local, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", size)), torch.cuda.device_count()
    if cuda and local > gpus:
        raise UserError(f"{local} processes on a machine with {gpus} GPUs; give torchrun --nproc-per-node={gpus}")
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    PartialState(cpu=not cuda)  # gives each process its GPU
    if rank:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (open to the end)


def stop() -> None:
    """Part from the other processes, at the end of a run that went well.

    A DistributedDataParallel that outlives the group destroys it in the end, holding the GIL that gloo's thread may
    then wait for, to this process's last day (pytorch/pytorch#56297): what nobody refers to any more goes first.
    """
    if distributed.is_initialized():
        gc.collect()
        wait()
        distributed.destroy_process_group()


def count() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_main() -> bool:
    """Whether this process is the one that writes files and messages."""
    return rank() == 0


def gather(value: T) -> list[T]:
    """What every process gave, in the order of their ranks."""
    values = [value] * count()
    if len(values) > 1:
        distributed.all_gather_object(values, value)
    return values


def highest(number: int) -> int:
    """The largest of the numbers that the processes gave; cheap enough for every step."""
    if count() == 1:
        return number
    tensor = torch.tensor(number)
    distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
    return int(tensor)


def wait() -> None:
    """Wait until every process is here."""
    gather(None)


def on_main(function: Callable[P, T]) -> Callable[P, T]:
    """Decorator: rank 0 alone calls ``function``; what it returns, or raises, it returns or raises in every process."""

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        if count() == 1:
            return function(*args, **kwargs)
        outcome: list[T | Exception | None] = [None, None]
        if is_main():
            try:
                outcome[0] = function(*args, **kwargs)
            except Exception as error:
                outcome[1] = error
        distributed.broadcast_object_list(outcome, src=0)
        if isinstance(outcome[1], Exception):
            raise outcome[1]
        return outcome[0]  # type: ignore[return-value]

    return called


@contextmanager
def main_first() -> Iterator[None]:
    """Rank 0 runs the block before the others do: it downloads and makes what they then find."""
    if not is_main():
        wait()
    yield
    if is_main():
        wait()


def fail(message: str, code: int) -> int:
    """Print on standard error why this process ends, unless another has done so; return the exit code for all.

    A process that fails takes the others with it, and their errors, about a lost connection, say nothing new.
    """
    if _store is None or _store.add("failed", 1) == 1:
        print(message, file=sys.stderr, flush=True)
        if _store is not None:
            _store.set("code", str(code))
        return code
    _store.wait(["code"], timedelta(minutes=1))
    return int(_store.get("code"))
