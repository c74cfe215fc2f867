"""Data loading like `torch.utils.data`: dataset, sampler, collate function and loader.

A dataset returns the sample of an index. A sampler returns the indices of an epoch, as a pure function of seed and
epoch, so that a run can resume in the middle of any epoch. `default_collate` makes a batch of samples. The loader joins
them and prefetches in threads. Threads suffice where a sample waits for a disk, or is decoded by a library that
releases the interpreter lock (Pillow, NumPy, torch). Python code that computes needs the processes of torch's loader.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch


class Dataset(Protocol):
    """Returns a sample for every index from 0 to its length − 1."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


class Sampler(Protocol):
    """Returns the order in which an epoch visits the samples."""

    def __len__(self) -> int:
        """Counts the indices of one epoch."""
        ...

    def indices(self, epoch: int) -> Sequence[int]:
        """Returns the indices that an epoch visits, in order."""
        ...


class TensorDataset:
    """Serves row i of each tensor as sample i.

    Raises:
        ValueError: the tensors differ in length.
    """

    def __init__(self, *tensors: torch.Tensor) -> None:
        if len({len(tensor) for tensor in tensors}) != 1:
            raise ValueError(f"tensors of different lengths: {[len(tensor) for tensor in tensors]}")
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)


class SequentialSampler:
    """Visits 0 … n − 1 in every epoch, as evaluation does."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def indices(self, epoch: int) -> Sequence[int]:
        return range(self.n)


class RandomSampler:
    """Visits all n samples once in every epoch, each epoch in an order of its own."""

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.seed = n, seed

    def __len__(self) -> int:
        return self.n

    def indices(self, epoch: int) -> Sequence[int]:
        # A sequence as a seed is hashed as a whole: seed + epoch would give (1, 2) and (2, 1) the same order.
        order: list[int] = np.random.default_rng([self.seed, epoch]).permutation(self.n).tolist()
        return order


class WeightedRandomSampler:
    """Draws `num_samples` with replacement in every epoch, each sample in proportion to its weight.

    Raises:
        ValueError: a weight is negative or not finite, or all are 0.
    """

    def __init__(self, weights: Sequence[float] | np.ndarray, num_samples: int, seed: int) -> None:
        self.weights = np.asarray(weights, dtype=np.float64)
        if not (np.isfinite(self.weights).all() and (self.weights >= 0).all() and self.weights.sum() > 0):
            raise ValueError("weights must be finite and at least 0, and one above 0")
        self.num_samples, self.seed = num_samples, seed

    def __len__(self) -> int:
        return self.num_samples

    def indices(self, epoch: int) -> Sequence[int]:
        rng = np.random.default_rng([self.seed, epoch])
        probabilities = self.weights / self.weights.sum()
        draws: list[int] = rng.choice(len(self.weights), self.num_samples, p=probabilities).tolist()
        return draws


def default_collate(samples: Sequence[Any]) -> Any:
    """Combines samples of one structure into a batch of that structure.

    Tensors, arrays and numbers are stacked along a new first axis; tuples, lists and dicts are combined part by part;
    anything else, such as text, becomes a list.

    Raises:
        ValueError: shapes, keys or lengths differ between samples; the message says how.
    """
    first = samples[0]
    if isinstance(first, Mapping):
        if any(sample.keys() != first.keys() for sample in samples):
            raise ValueError(f"samples of one batch have different keys: {[list(sample) for sample in samples]}")
        return {key: default_collate([sample[key] for sample in samples]) for key in first}
    if isinstance(first, (tuple, list)):
        if any(len(sample) != len(first) for sample in samples):
            raise ValueError(f"samples of one batch have {sorted({len(sample) for sample in samples})} parts")
        return tuple(default_collate(part) for part in zip(*samples, strict=True))
    if isinstance(first, (np.ndarray, np.generic)):
        return default_collate([torch.as_tensor(sample) for sample in samples])
    if isinstance(first, torch.Tensor):
        if len(shapes := {tuple(sample.shape) for sample in samples}) != 1:
            advice = "pad or crop them, or pass a collate_fn"
            raise ValueError(f"samples of one batch have shapes {sorted(shapes)}; {advice}")
        return torch.stack(list(samples))
    if isinstance(first, (bool, int, float)):
        return torch.tensor(samples)
    return list(samples)


class DataLoader:
    """Loads the batches of any epoch, from any position.

    Args:
        dataset: of the samples.
        batch_size: samples in a batch.
        sampler: by default every epoch visits all samples in order.
        collate_fn: makes a batch of a list of samples.
        drop_last: omits an incomplete last batch, as training with batch norm should.
        num_workers: threads that prefetch; with 0 a batch is loaded when it is asked for. The batches are the same.
        prefetch_batches: largest number of batches that are ready or being loaded, if there are workers.

    Raises:
        ValueError: `batch_size` or `prefetch_batches` is below 1, or `num_workers` is negative.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        sampler: Sampler | None = None,
        collate_fn: Callable[[Sequence[Any]], Any] = default_collate,
        drop_last: bool = False,
        num_workers: int = 0,
        prefetch_batches: int = 4,
    ) -> None:
        if batch_size < 1 or prefetch_batches < 1 or num_workers < 0:
            raise ValueError(
                f"batch_size {batch_size} and prefetch_batches {prefetch_batches} must be at least 1, "
                f"num_workers {num_workers} at least 0"
            )
        self.dataset, self.batch_size, self.collate_fn = dataset, batch_size, collate_fn
        self.sampler: Sampler = sampler or SequentialSampler(len(dataset))
        self.drop_last, self.num_workers, self.prefetch_batches = drop_last, num_workers, prefetch_batches

    def __len__(self) -> int:
        """Counts the batches of one epoch."""
        whole, rest = divmod(len(self.sampler), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """Yields batches `start`, `start + 1`, … of an epoch.

        Raises:
            Exception: what the dataset raises, with a note that names the sample.
        """
        batches = self._batches(epoch)[start:]
        return map(self._read, batches) if self.num_workers == 0 else self._read_ahead(batches)

    def _batches(self, epoch: int) -> list[Sequence[int]]:
        # Slices of the epoch's order; the last one may be short.
        order, size = self.sampler.indices(epoch), self.batch_size
        return [order[number * size : (number + 1) * size] for number in range(len(self))]

    def _read(self, indices: Sequence[int]) -> Any:
        samples = []
        for index in indices:
            try:
                samples.append(self.dataset[index])
            except Exception as error:
                error.add_note(f"in sample {index} of the data set")
                raise
        return self.collate_fn(samples)

    def _read_ahead(self, batches: list[Sequence[int]]) -> Iterator[Any]:
        # Results are taken in the order of submission, whichever thread is done first.
        waiting: deque[Future[Any]] = deque()
        pool = ThreadPoolExecutor(self.num_workers, thread_name_prefix="loader")
        try:
            for batch in batches:
                waiting.append(pool.submit(self._read, batch))
                if len(waiting) == self.prefetch_batches:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # also if the consumer breaks off its loop
            pool.shutdown(wait=True, cancel_futures=True)
