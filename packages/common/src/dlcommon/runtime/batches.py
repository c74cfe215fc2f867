"""Batches from tensors in memory, whose order is a pure function of seed, epoch and position."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

from dlcommon.pytorch_core.transfer import to_device

Tensors = tuple[torch.Tensor, ...]

Transform = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
"""Augmentation of one batch; all its randomness comes from the generator."""


@dataclass(frozen=True)
class Batch:
    """Holds one process's part of a batch whose samples count unequally, such as sentences of different lengths.

    The loss of a batch is a mean over what the weight counts (tokens); gradients of several batches, or of several
    processes, are averaged by these weights.
    """

    tensors: Tensors
    samples: int
    """Samples in the whole batch, over all processes."""
    weight: float
    """What the mean of this process's loss is taken over, such as its target tokens; may be 0."""
    total_weight: float
    """The weights of all processes together; above 0."""


class EpochBatches(Protocol):
    """Yields the batches of `TrainingRun.steps`: the same ones every time, from any position of any epoch."""

    unit: str
    """What the weights count: `samples`, `tokens`."""

    def length(self, epoch: int) -> int:
        """Returns the number of batches in that epoch, at least 1; epochs may differ."""
        ...

    def epoch(self, epoch: int, start: int) -> Iterator[Tensors | Batch]:
        """Yields batches `start`, `start + 1`, … of that epoch.

        Plain tensors hold this process's equal part of a batch, samples along their first axis, all counting alike.
        """
        ...


def generator_for(*key: int | str) -> torch.Generator:
    """Makes a generator that depends on the whole key, so that (seed 1, epoch 2) is unrelated to (2, 1)."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


class TensorBatches:
    """Shuffles tensors that lie in memory into batches, and augments whole batches at once.

    Args:
        tensors: share their first axis, the samples; the transform applies to the first of them.
        batch_size: samples in one batch over all processes; an incomplete last batch is left out.
        transform: augmentation, called with the batch and a generator of its own.
        rank: of `world_size` processes, this one's share: an equal slice of every batch.

    Raises:
        ValueError: the tensors differ in length, or hold less than one batch.
    """

    def __init__(
        self,
        *tensors: torch.Tensor,
        batch_size: int,
        seed: int,
        transform: Transform | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        samples = {len(tensor) for tensor in tensors}
        if len(samples) != 1:
            raise ValueError(f"tensors of different lengths: {sorted(samples)}")
        self.samples = samples.pop()
        if batch_size % world_size:
            raise ValueError(f"batch_size {batch_size} cannot be shared equally by {world_size} processes")
        if self.samples < batch_size:
            raise ValueError(f"batch_size {batch_size} is more than the {self.samples} training samples")
        self.tensors, self.batch_size, self.seed = tensors, batch_size, seed
        self.transform, self.rank, self.world_size = transform, rank, world_size

    unit = "samples"

    def length(self, epoch: int = 0) -> int:
        """Returns the number of batches, the same in every epoch."""
        return self.samples // self.batch_size

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Tensors]:
        """Yields this process's part of batches `start`, `start + 1`, … of that epoch."""
        order = torch.randperm(self.samples, generator=generator_for(self.seed, epoch))
        order = to_device(order, self.tensors[0].device)
        share = self.batch_size // self.world_size
        own = slice(self.rank * share, (self.rank + 1) * share)
        for index in range(start, self.length()):
            chosen = order[index * self.batch_size : (index + 1) * self.batch_size]
            first, *rest = (tensor[chosen] for tensor in self.tensors)
            if self.transform is not None:
                # The whole batch is augmented by every process, so that two draw what one alone would.
                first = self.transform(first, generator_for(self.seed, epoch, index))
            yield tuple(tensor[own] for tensor in (first, *rest))
