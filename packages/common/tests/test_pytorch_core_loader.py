"""The loader against torch's: batches, order, resuming, threads, errors."""

import threading
from typing import Any

import numpy as np
import pytest
import torch
from dlcommon.pytorch_core.loader import (
    DataLoader,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)
from torch.utils import data as reference

SAMPLES = 23


def dataset() -> TensorDataset:
    inputs = torch.randn(SAMPLES, 3, 2, generator=torch.Generator().manual_seed(0))
    return TensorDataset(inputs, torch.arange(SAMPLES))


def assert_same_batches(ours: list[Any], theirs: list[Any]) -> None:
    assert len(ours) == len(theirs)
    for own, other in zip(ours, theirs, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(own, other, strict=True))


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 5, 23, 40])
def test_batches_are_torchs(batch_size: int, drop_last: bool, workers: int) -> None:
    sampler = RandomSampler(SAMPLES, seed=4)
    ours = DataLoader(dataset(), batch_size, sampler, drop_last=drop_last, num_workers=workers)
    samples: Any = dataset()
    theirs: reference.DataLoader[Any] = reference.DataLoader(
        samples, batch_size, sampler=sampler.indices(2), drop_last=drop_last
    )
    assert_same_batches(list(ours.epoch(2)), list(theirs))
    assert len(ours) == len(theirs)


def test_without_a_sampler_samples_come_in_order() -> None:
    labels = torch.cat([labels for _, labels in DataLoader(dataset(), 4).epoch(7)])
    assert labels.tolist() == list(range(SAMPLES))


def test_shuffling_is_a_function_of_seed_and_epoch() -> None:
    orders = {(seed, epoch): RandomSampler(200, seed).indices(epoch) for seed in range(4) for epoch in range(4)}
    assert len({tuple(order) for order in orders.values()}) == 16
    assert all(sorted(order) == list(range(200)) for order in orders.values())
    torch.manual_seed(5)
    assert RandomSampler(200, 1).indices(2) == orders[1, 2]


def test_every_order_is_as_likely() -> None:
    """Of 3 samples, over 6,000 epochs: the six orders come 1,000 times each, give or take four deviations."""
    sampler = RandomSampler(3, seed=0)
    _, counts = np.unique([sampler.indices(epoch) for epoch in range(6000)], axis=0, return_counts=True)
    assert len(counts) == 6
    assert np.abs(counts - 1000).max() < 4 * np.sqrt(6000 * 1 / 6 * 5 / 6)


def test_weighted_draws_in_proportion() -> None:
    sampler = WeightedRandomSampler([1, 0, 3], num_samples=8000, seed=0)
    counts = np.bincount(sampler.indices(0), minlength=3)
    assert counts[1] == 0
    assert counts[2] / 8000 == pytest.approx(0.75, abs=4 * np.sqrt(0.75 * 0.25 / 8000))
    assert sampler.indices(0) != sampler.indices(1)
    assert sampler.indices(1) == sampler.indices(1)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_can_begin_anywhere(workers: int) -> None:
    loader = DataLoader(dataset(), 5, RandomSampler(SAMPLES, 0), num_workers=workers)
    assert_same_batches(list(loader.epoch(1, start=3)), list(loader.epoch(1))[3:])
    assert list(loader.epoch(1, start=5)) == []


def test_collate_is_torchs() -> None:
    samples = [
        {
            "image": torch.full((2, 2), float(n)),
            "box": np.array([n, n + 1]),
            "pair": (n, n / 2),
            "flag": n > 1,
            "score": np.float32(n),
            "name": f"sample {n}",
        }
        for n in range(3)
    ]
    ours, theirs = default_collate(samples), reference.default_collate(samples)
    assert ours.keys() == theirs.keys()
    assert ours["name"] == theirs["name"]
    for own, other in [
        *((ours[key], theirs[key]) for key in ("image", "box", "flag", "score")),
        *zip(ours["pair"], theirs["pair"], strict=True),
    ]:
        assert torch.equal(own.double(), other.double())
        assert own.dtype in (other.dtype, torch.float32)  # torch makes Python's floats float64, ours the default type


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ([torch.ones(2), torch.ones(3)], r"shapes \[\(2,\), \(3,\)\]; pad"),
        ([{"a": 1}, {"b": 1}], "different keys"),
        ([(1, 2), (1,)], r"\[1, 2\] parts"),
    ],
)
def test_samples_that_do_not_fit_are_named(samples: list[Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        default_collate(samples)


class Counting:
    """Notes which samples have been read, and by how many threads; one of them may be damaged."""

    def __init__(self, damaged: int = -1) -> None:
        self.damaged = damaged
        self.read: list[int] = []
        self.threads: set[str] = set()

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> int:
        self.read.append(index)
        self.threads.add(threading.current_thread().name)
        if index == self.damaged:
            raise OSError("image is truncated")
        return index


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_names_its_sample_and_ends_the_epoch(workers: int) -> None:
    batches = DataLoader(Counting(damaged=37), 10, num_workers=workers).epoch(0)
    assert [next(batches)[0].item() for _ in range(3)] == [0, 10, 20]
    with pytest.raises(OSError, match="truncated") as caught:
        next(batches)
    assert caught.value.__notes__ == ["in sample 37 of the data set"]


def test_reading_ahead_is_bounded_and_stops_with_the_loop() -> None:
    counting = Counting()
    before = threading.active_count()
    batches: Any = DataLoader(counting, 10, num_workers=2, prefetch_batches=3).epoch(0)
    next(batches)
    batches.close()
    assert threading.active_count() == before
    assert len(counting.read) <= 30
    assert all(name.startswith("loader") for name in counting.threads)


@pytest.mark.parametrize(
    "bad", [{"batch_size": 0}, {"batch_size": 1, "num_workers": -1}, {"batch_size": 1, "prefetch_batches": 0}]
)
def test_impossible_options_are_named(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least"):
        DataLoader(Counting(), **bad)


def test_data_and_weights_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="different lengths"):
        TensorDataset(torch.ones(2), torch.ones(3))
    with pytest.raises(ValueError, match="weights"):
        WeightedRandomSampler([0.0, 0.0], 3, 0)
    with pytest.raises(ValueError, match="weights"):
        WeightedRandomSampler([1.0, float("nan")], 3, 0)


def test_in_order_is_the_same_every_epoch() -> None:
    assert list(SequentialSampler(4).indices(0)) == list(SequentialSampler(4).indices(9)) == [0, 1, 2, 3]
