"""A micro-batch that fits the memory, found by trying."""

import gc
import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from delta_lora.errors import RunError
from delta_lora.suite.config.cell import Cell
from delta_lora.suite.machine import ranks
from delta_lora.suite.machine.resources import is_out_of_memory, smaller

T = TypeVar("T")
log = logging.getLogger(__name__)


def as_memory_allows(cell: Cell, attempt: Callable[[int], T]) -> T:
    """Call ``attempt`` with a micro-batch size; where memory runs out it is halved, and the run goes on from there."""
    train = cell.config.task.train
    batch = train.batch_size // ranks.count()
    micro: int = train.micro_batch_size or batch
    while True:
        try:
            return attempt(micro)
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
