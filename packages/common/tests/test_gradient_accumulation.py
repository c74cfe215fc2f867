"""Accumulated gradients against those of one large batch, of one process and of several."""

import pytest
import torch
from dlcommon.runtime.batches import Batch
from dlcommon.runtime.gradient_accumulation import GradientAccumulation
from torch import nn
from torch.nn import functional as F


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()


def tokens(*counts: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(sum(counts), 5, generator=generator, dtype=torch.float64)
    targets = torch.randint(3, (sum(counts),), generator=generator)
    return list(zip(x.split(counts), targets.split(counts), strict=True))


def mean_loss(model: nn.Module, x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    # The mean over no token is taken for 0, as a loop does for a process without any.
    return F.cross_entropy(model(x), targets, reduction="sum") / max(len(targets), 1)


def gradients_of(model: nn.Module) -> torch.Tensor:
    gradients = [parameter.grad for parameter in model.parameters()]
    return torch.cat([gradient.flatten() for gradient in gradients if gradient is not None])


def large_batch(parts: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    model = network()
    mean_loss(model, torch.cat([x for x, _ in parts]), torch.cat([t for _, t in parts])).backward()
    return gradients_of(model)


@pytest.mark.parametrize("counts", [(4, 4, 4), (1, 9, 3), (6,), (5, 0, 2)])
def test_accumulated_gradients_equal_the_large_batchs(counts: tuple[int, ...]) -> None:
    model, parts = network(), tokens(*counts)
    accumulation = GradientAccumulation(len(parts), world_size=1)
    for number, (x, targets) in enumerate(parts):
        accumulation.begin(Batch((), 1, len(targets), max(len(targets), 1e-9)), last=False)
        loss = mean_loss(model, x, targets)
        accumulation.add_loss("loss", loss)
        (accumulation.loss_scale * loss).backward()
        assert accumulation.is_complete == (number == len(parts) - 1)
    accumulation.average_gradients(model.parameters())
    torch.testing.assert_close(gradients_of(model), large_batch(parts), rtol=1e-8, atol=1e-10)
    whole = mean_loss(network(), torch.cat([x for x, _ in parts]), torch.cat([t for _, t in parts]))
    assert accumulation.shown_losses()["loss"] == pytest.approx(whole.item())


@pytest.mark.parametrize("counts", [((3, 5), (2, 7)), ((1, 9), (0, 4), (6, 2))])
def test_processes_that_average_their_gradients_equal_the_large_batch(counts: tuple[tuple[int, int], ...]) -> None:
    """Each row is one batch, each number the tokens that one of two processes holds of it."""
    world_size, flat = 2, tokens(*(count for row in counts for count in row))
    exchanged = []
    for rank in range(world_size):
        model = network()
        accumulation = GradientAccumulation(len(counts), world_size)
        for number, row in enumerate(counts):
            x, targets = flat[number * world_size + rank]
            accumulation.begin(Batch((), 1, row[rank], sum(row)), last=False)
            (accumulation.loss_scale * mean_loss(model, x, targets)).backward()
        accumulation.average_gradients(model.parameters())
        exchanged.append(gradients_of(model))
    averaged = torch.stack(exchanged).mean(dim=0)  # as DistributedDataParallel does
    torch.testing.assert_close(averaged, large_batch(flat), rtol=1e-9, atol=1e-12)


def test_the_end_of_training_ends_a_group_early() -> None:
    model, parts = network(), tokens(4, 2, 3)
    accumulation = GradientAccumulation(2, world_size=1)
    complete, found = [], []
    for number, (x, targets) in enumerate(parts):
        accumulation.begin(Batch((), 1, len(targets), len(targets)), last=number == 2)
        (accumulation.loss_scale * mean_loss(model, x, targets)).backward()
        complete.append(accumulation.is_complete)
        if accumulation.is_complete:
            accumulation.average_gradients(model.parameters())
            found.append(gradients_of(model))
            model.zero_grad()
    assert complete == [False, True, True]
    torch.testing.assert_close(found[0], large_batch(parts[:2]), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found[1], large_batch(parts[2:]), rtol=1e-9, atol=1e-12)
