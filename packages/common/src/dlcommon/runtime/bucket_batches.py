"""Batches of sequences of similar lengths, as many as fit a budget of tokens."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch

from dlcommon.runtime.batches import Batch, Tensors, generator_for

Collate = Callable[[np.ndarray], Tensors]
"""Makes the padded tensors of the samples with these indices."""


class BucketBatches:
    """Groups sequences of similar lengths, so that little of a batch is padding.

    Each epoch's lengths are jittered before they are sorted, so that its batches are not those of the last one, nor
    always as many. Two processes take every second sample of a batch.

    Args:
        lengths: tokens of each sequence.
        max_tokens: padded size of a batch over all processes: longest sequence × sequences.
        collate: makes the tensors of some samples.
        weights: what the loss of each sequence is a mean over, such as its target tokens; by default its length.
        jitter: how far, as a fraction of its length, a sequence may move among its neighbors.

    Raises:
        ValueError: there are no sequences, one is longer than a batch may be, or a weight is missing or not positive.
    """

    unit = "tokens"

    def __init__(
        self,
        lengths: Sequence[int],
        max_tokens: int,
        collate: Collate,
        seed: int,
        weights: Sequence[float] | None = None,
        jitter: float = 0.1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not len(lengths):
            raise ValueError("there are no sequences to train on")
        if max(lengths) > max_tokens:
            raise ValueError(f"a sequence of {max(lengths)} tokens does not fit a batch of {max_tokens}")
        self.lengths, self.max_tokens, self.collate = np.asarray(lengths), max_tokens, collate
        self.weights = self.lengths if weights is None else np.asarray(weights)
        if len(self.weights) != len(self.lengths) or self.weights.min() <= 0:
            raise ValueError("each sequence needs a weight above 0")
        self.seed, self.jitter, self.rank, self.world_size = seed, jitter, rank, world_size
        self._batches = lru_cache(maxsize=2)(self._group)  # `length` and `epoch` ask for the same epoch

    def length(self, epoch: int) -> int:
        """Returns the number of batches in that epoch."""
        return len(self._batches(epoch))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yields this process's part of batches `start`, `start + 1`, … of that epoch."""
        for indices in self._batches(epoch)[start:]:
            own = indices[self.rank :: self.world_size]
            total = float(self.weights[indices].sum())
            # With fewer sequences than processes, this one computes something that does not count.
            tensors = self.collate(own if len(own) else indices[:1])
            yield Batch(tensors, len(indices), float(self.weights[own].sum()), total)

    def _group(self, epoch: int) -> list[np.ndarray]:
        generator = generator_for(self.seed, epoch)
        noise = torch.rand(len(self.lengths), generator=generator).numpy()
        order = np.argsort(self.lengths * (1 + self.jitter * noise), kind="stable")
        batches: list[np.ndarray] = []
        first, longest = 0, 0
        for position, index in enumerate(order):
            longest = max(longest, int(self.lengths[index]))
            if longest * (position + 1 - first) > self.max_tokens:
                batches.append(order[first:position])
                first, longest = position, int(self.lengths[index])
        batches.append(order[first:])
        shuffled = torch.randperm(len(batches), generator=generator).tolist()
        return [batches[number] for number in shuffled]
