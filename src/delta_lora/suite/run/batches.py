"""Which examples a step sees: the same for a seed, whether or not a run was resumed, on one process or on several."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch.utils.data import BatchSampler, Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices


class EpochSampler(Sampler[int]):
    """Indices of one epoch, in an order that depends on the seed and the epoch alone.

    Transformers' length-grouped sampler draws from torch's global generator, so a run resumed in its second epoch
    would see another order than the undisturbed run.

    Args:
        lengths: tokens of every example.
        batch_size: the effective one.
        seed: of the run.
        epoch: tells which epoch begins.
        grouped: examples of similar length in a batch, the batches in random order; False: a plain shuffle.
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int, epoch: Callable[[], int], grouped: bool) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch
        self.grouped = grouped

    def __len__(self) -> int:
        return len(self.lengths)

    def grouped_by_length(self, generator: torch.Generator) -> Iterator[int]:
        """Batches of similar length, in random order: Transformers' own come from the longest to the shortest, 50 at a
        time, and tokens a step would fall in waves. What is left for a smaller last batch stays last."""
        indices = get_length_grouped_indices(self.lengths, self.batch_size, generator=generator)
        batches = list(BatchSampler(indices, self.batch_size, drop_last=True))
        for batch in torch.randperm(len(batches), generator=generator).tolist():
            yield from batches[batch]
        yield from indices[len(batches) * self.batch_size :]

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self.seed * 1_000_003 + self.epoch())
        if self.grouped:
            return self.grouped_by_length(generator)
        return iter(torch.randperm(len(self.lengths), generator=generator).tolist())


class MicroBatches(Sampler[list[int]]):
    """One process's micro-batches of an epoch: of each step's examples every n-th, where there are n processes.

    A step so has the same examples whatever the number of processes and the micro-batch, also the last of an epoch,
    which may have fewer. Accelerate's own shares give each process whole steps' worth and repeat examples there.

    Args:
        order: of the epoch; its ``batch_size`` is a step's.
        size: examples at once.
        rank: which of the processes.
        processes: how many there are.
    """

    def __init__(self, order: EpochSampler, size: int, rank: int, processes: int) -> None:
        self.order = order
        self.size = size
        self.rank = rank
        self.processes = processes

    def __len__(self) -> int:
        """Micro-batches of the process that has most, so that all take as many steps."""
        return sum(1 for _ in self.dealt(range(len(self.order)), 0))

    def __iter__(self) -> Iterator[list[int]]:
        return self.dealt(list(self.order), self.rank)

    def dealt(self, indices: Sequence[int], rank: int) -> Iterator[list[int]]:
        """The micro-batches of process ``rank``."""
        for step in BatchSampler(indices, self.order.batch_size, drop_last=False):
            yield from BatchSampler(step[rank :: self.processes], self.size, drop_last=False)
