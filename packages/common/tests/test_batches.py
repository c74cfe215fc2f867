"""Batches whose order is a pure function of seed, epoch and position."""

from collections.abc import Iterable
from itertools import islice
from typing import Any

import pytest
import torch
from dlcommon.pytorch_core.augmentation import random_crop, random_horizontal_flip
from dlcommon.runtime.batches import TensorBatches, generator_for

IMAGES = torch.arange(22 * 2 * 6 * 6, dtype=torch.float32).reshape(22, 2, 6, 6)
LABELS = torch.arange(22)


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return random_crop(random_horizontal_flip(images, generator), 4, generator)


def batches(**changes: Any) -> TensorBatches:
    return TensorBatches(IMAGES, LABELS, **{"batch_size": 4, "seed": 3, "transform": augment, **changes})


def same(one: Iterable[tuple[torch.Tensor, ...]], other: Iterable[tuple[torch.Tensor, ...]]) -> bool:
    one, other = list(one), list(other)
    return len(one) == len(other) and all(
        torch.equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)
    )


@pytest.mark.parametrize("start", range(6))
def test_an_epoch_is_the_same_from_any_position(start: int) -> None:
    whole = batches()
    assert whole.length() == 5
    torch.manual_seed(start)  # the global generator has no say
    assert same(batches().epoch(2, start), islice(whole.epoch(2), start, None))


def test_an_epoch_shows_every_sample_at_most_once_with_its_label() -> None:
    plain = TensorBatches(IMAGES, LABELS, batch_size=4, seed=0)
    seen = torch.cat([labels for _, labels in plain.epoch(0)])
    assert len(seen.unique()) == 20
    for images, labels in plain.epoch(1):
        assert torch.equal(images, IMAGES[labels])


def test_epochs_and_seeds_differ_in_order_and_augmentation() -> None:
    first = list(batches().epoch(0))
    assert not same(first, batches().epoch(1))
    assert not same(first, batches(seed=4).epoch(0))
    drawn = {tuple(torch.rand(2, generator=generator_for(*key)).tolist()) for key in [(1, 2), (2, 1), (1, 2, 0), (12,)]}
    assert len(drawn) == 4


@pytest.mark.parametrize("world", [2, 4])
def test_the_processes_shares_make_up_the_single_ones_batch(world: int) -> None:
    shares = zip(*(batches(rank=rank, world_size=world).epoch(1) for rank in range(world)), strict=True)
    joined = [tuple(torch.cat(column) for column in zip(*parts, strict=True)) for parts in shares]
    assert same(joined, batches().epoch(1))


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"batch_size": 23}, "more than the 22"), ({"batch_size": 9, "world_size": 2}, "shared equally by 2")],
)
def test_impossible_batches_are_refused(changes: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        batches(**changes)


def test_tensors_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[21, 22\]"):
        TensorBatches(IMAGES, LABELS[1:], batch_size=2, seed=0)
