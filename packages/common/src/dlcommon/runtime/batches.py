"""Batches from tensors in memory, whose order is a pure function of seed, epoch and position."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Protocol

import torch

from dlcommon.pytorch_core.transfer import to_device

Transform = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
"""Augmentation of one batch; all its randomness comes from the generator."""


class EpochBatches(Protocol):
    """What `Run.steps` iterates: any epoch, from any position, gives the same batches every time."""

    def __len__(self) -> int:
        """Batches in one epoch."""
        ...

    def epoch(self, epoch: int, start: int) -> Iterator[tuple[torch.Tensor, ...]]:
        """Batches `start`, `start + 1`, … of that epoch."""
        ...


def generator_for(*key: int) -> torch.Generator:
    """A generator that depends on the whole key, so that (seed 1, epoch 2) is unrelated to (2, 1)."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


class TensorBatches:
    """Shuffled batches of tensors that lie in memory, with augmentation of whole batches at once.

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

    def __len__(self) -> int:
        return self.samples // self.batch_size

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[torch.Tensor, ...]]:
        order = torch.randperm(self.samples, generator=generator_for(self.seed, epoch))
        order = to_device(order, self.tensors[0].device)
        share = self.batch_size // self.world_size
        own = slice(self.rank * share, (self.rank + 1) * share)
        for index in range(start, len(self)):
            chosen = order[index * self.batch_size : (index + 1) * self.batch_size]
            first, *rest = (tensor[chosen] for tensor in self.tensors)
            if self.transform is not None:
                # The whole batch is augmented by every process, so that two draw what one alone would.
                first = self.transform(first, generator_for(self.seed, epoch, index))
            yield tuple(tensor[own] for tensor in (first, *rest))
