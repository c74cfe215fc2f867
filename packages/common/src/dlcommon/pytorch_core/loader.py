"""Samples, their order, their batches: what `torch.utils.data` does, in four small parts.

A dataset answers for one index. A sampler says which indices an epoch visits, as a pure function of seed and epoch,
so that a run can go on in the middle of any epoch. `collate` makes a batch of samples. The loader puts them together,
and reads ahead in threads: enough where a sample waits for a disk, or is decoded by a library that lets other threads
run meanwhile (Pillow, NumPy, torch do). Python code that computes needs processes, which torch's loader has.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch


class Dataset(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


class Sampler(Protocol):
    def __len__(self) -> int:
        """Indices in one epoch."""
        ...

    def order(self, epoch: int) -> Sequence[int]:
        """The indices that this epoch visits."""
        ...


class TensorDataset:
    """Sample i is row i of each tensor.

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


class InOrder:
    """Every epoch visits 0 … n − 1, as evaluation does."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def order(self, epoch: int) -> Sequence[int]:
        return range(self.n)


class Shuffled:
    """Every epoch visits all n samples once, in an order of its own."""

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.seed = n, seed

    def __len__(self) -> int:
        return self.n

    def order(self, epoch: int) -> Sequence[int]:
        # A sequence as a seed is hashed as a whole: seed + epoch would give (1, 2) and (2, 1) the same order.
        return np.random.default_rng([self.seed, epoch]).permutation(self.n).tolist()


class Weighted:
    """Every epoch draws `samples` with replacement, each sample in proportion to its weight.

    Raises:
        ValueError: a weight is negative or not finite, or all are 0.
    """

    def __init__(self, weights: Sequence[float] | np.ndarray, samples: int, seed: int) -> None:
        self.weights = np.asarray(weights, dtype=np.float64)
        if not (np.isfinite(self.weights).all() and (self.weights >= 0).all() and self.weights.sum() > 0):
            raise ValueError("weights must be finite and at least 0, and one above 0")
        self.samples, self.seed = samples, seed

    def __len__(self) -> int:
        return self.samples

    def order(self, epoch: int) -> Sequence[int]:
        generator = np.random.default_rng([self.seed, epoch])
        return generator.choice(len(self.weights), self.samples, p=self.weights / self.weights.sum()).tolist()


def collate(samples: Sequence[Any]) -> Any:
    """Samples of one structure to one structure of batches: tensors, arrays and numbers are stacked along a new first
    axis, tuples, lists and dicts go part by part, anything else, such as text, becomes a list.

    Raises:
        ValueError: shapes, keys or lengths differ between samples; says how.
    """
    first = samples[0]
    if isinstance(first, Mapping):
        if any(sample.keys() != first.keys() for sample in samples):
            raise ValueError(f"samples of one batch have different keys: {[list(sample) for sample in samples]}")
        return {key: collate([sample[key] for sample in samples]) for key in first}
    if isinstance(first, (tuple, list)):
        if any(len(sample) != len(first) for sample in samples):
            raise ValueError(f"samples of one batch have {sorted({len(sample) for sample in samples})} parts")
        return tuple(collate(part) for part in zip(*samples, strict=True))
    if isinstance(first, (np.ndarray, np.generic)):
        return collate([torch.as_tensor(sample) for sample in samples])
    if isinstance(first, torch.Tensor):
        if len(shapes := {tuple(sample.shape) for sample in samples}) != 1:
            advice = "pad or crop them, or give a collate of yours"
            raise ValueError(f"samples of one batch have shapes {sorted(shapes)}; {advice}")
        return torch.stack(list(samples))
    if isinstance(first, (bool, int, float)):
        return torch.tensor(samples)
    return list(samples)


class DataLoader:
    """Batches of any epoch, from any position.

    Args:
        sampler: by default every epoch visits all samples in order.
        drop_last: leaves out an incomplete last batch, as training with batch norm should.
        workers: threads that read ahead; 0 reads when asked. The batches are the same.
        ahead: batches that lie ready or are being read at most, with workers.

    Raises:
        ValueError: `batch_size` or `ahead` is below 1, or `workers` is negative.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        sampler: Sampler | None = None,
        collate: Callable[[Sequence[Any]], Any] = collate,
        drop_last: bool = False,
        workers: int = 0,
        ahead: int = 4,
    ) -> None:
        if batch_size < 1 or ahead < 1 or workers < 0:
            raise ValueError(
                f"batch_size {batch_size} and ahead {ahead} must be at least 1, workers {workers} at least 0"
            )
        self.dataset, self.batch_size, self.collate = dataset, batch_size, collate
        self.sampler: Sampler = sampler or InOrder(len(dataset))
        self.drop_last, self.workers, self.ahead = drop_last, workers, ahead

    def __len__(self) -> int:
        """Batches in one epoch."""
        whole, rest = divmod(len(self.sampler), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """Batches `start`, `start + 1`, … of that epoch.

        Raises:
            Exception: whatever the dataset raises, with the index of the sample in a note.
        """
        batches = self._batches(epoch)[start:]
        return map(self._read, batches) if self.workers == 0 else self._read_ahead(batches)

    def _batches(self, epoch: int) -> list[Sequence[int]]:
        order, size = self.sampler.order(epoch), self.batch_size
        return [order[number * size : (number + 1) * size] for number in range(len(self))]

    def _read(self, indices: Sequence[int]) -> Any:
        samples = []
        for index in indices:
            try:
                samples.append(self.dataset[index])
            except Exception as error:
                error.add_note(f"in sample {index} of the data set")
                raise
        return self.collate(samples)

    def _read_ahead(self, batches: list[Sequence[int]]) -> Iterator[Any]:
        waiting: deque[Future[Any]] = deque()
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="loader")
        try:
            for batch in batches:
                waiting.append(pool.submit(self._read, batch))
                if len(waiting) == self.ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # also where the loop that asked breaks off
            pool.shutdown(wait=True, cancel_futures=True)
