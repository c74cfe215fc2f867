"""Muon, schedules and averaging against torch's own."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from dlcommon.training.averaging import ExponentialMovingAverage
from dlcommon.training.muon import Muon, orthogonalize
from dlcommon.training.schedules import constant, cosine, inverse_sqrt, linear, set_learning_rate
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

SHAPES = [pytest.param((24, 24), id="square"), pytest.param((40, 12), id="tall"), pytest.param((12, 40), id="wide")]


def seeded(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("products", "rounding"), [(torch.float32, 0.002), (torch.bfloat16, 0.06)])
def test_orthogonalize_keeps_the_singular_vectors_and_levels_the_values(
    shape: tuple[int, int], dtype: torch.dtype, products: torch.dtype, rounding: float
) -> None:
    left, _, right = torch.linalg.svd(seeded(*shape, dtype=dtype), full_matrices=False)
    values = torch.linspace(1, 0.1, min(shape), dtype=dtype)
    assert values.min() / values.norm() > 0.01  # which is what the docstring asks for
    result = orthogonalize(left * values @ right, dtype=products)
    assert result.dtype == dtype
    assert result.shape == shape
    levelled = left.T @ result @ right.T
    diagonal = levelled.diagonal()
    # bfloat16 has 8 bits of mantissa: 0.4 % an operation.
    assert diagonal.min() > 0.68 - rounding / 2
    assert diagonal.max() < 1.21 + rounding / 2
    assert (levelled - diagonal.diag()).abs().max() < rounding


@pytest.mark.parametrize("nesterov", [True, False], ids=["nesterov", "plain"])
@pytest.mark.parametrize("shape", SHAPES)
def test_muon_steps_as_torch_does(shape: tuple[int, int], nesterov: bool) -> None:
    rows, columns = shape
    start = seeded(*shape)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    # torch averages the gradient where ours sums it, which the normalization takes out again, and stretches the
    # rate of tall matrices; with a momentum of 1/2 even the rounding is the same.
    stretch = math.sqrt(max(1, rows / columns))
    muon = Muon([ours], lr=0.02, momentum=0.5, nesterov=nesterov, dtype=torch.bfloat16)
    reference = torch.optim.Muon([theirs], lr=0.02 / stretch, momentum=0.5, nesterov=nesterov, weight_decay=0.0)
    for step in range(5):
        gradient = seeded(*shape, seed=step + 1)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        muon.step()
        reference.step()
    # Products of bfloat16 in another order: each of the five iterations differs by 1/256 of its result.
    difference, moved = (ours - theirs).norm(), (ours - start).norm()
    assert moved > 0.1
    assert difference < 0.05 * moved


def test_muon_flattens_kernels_and_normalizes_them() -> None:
    kernel, matrix = nn.Parameter(seeded(6, 2, 3, 3)), nn.Parameter(seeded(6, 2, 3, 3).reshape(6, 18))
    gradient = seeded(6, 2, 3, 3, seed=9)
    for parameter in (kernel, matrix):
        parameter.grad = gradient.reshape(parameter.shape)
        Muon([parameter], lr=0.1, normalize=True).step()
    torch.testing.assert_close(kernel.reshape(6, 18), matrix)
    before = seeded(6, 2, 3, 3).reshape(6, 18)
    scaled = before * 6**0.5 / before.norm()
    torch.testing.assert_close(matrix, scaled - 0.1 * orthogonalize(1.95 * gradient.reshape(6, 18)), rtol=0, atol=1e-6)


def test_muon_is_independent_of_memory_layout() -> None:
    plain = nn.Parameter(seeded(8, 4, 3, 3))
    last = nn.Parameter(seeded(8, 4, 3, 3).contiguous(memory_format=torch.channels_last))
    for parameter in (plain, last):
        optimizer = Muon([parameter])
        for step in range(3):
            parameter.grad = torch.zeros_like(parameter) + seeded(8, 4, 3, 3, seed=step + 1)
            optimizer.step()
    torch.testing.assert_close(plain, last, rtol=0, atol=1e-6)


def test_muon_resumes_from_its_state() -> None:
    whole, halves = nn.Parameter(seeded(5, 7)), nn.Parameter(seeded(5, 7))
    optimizer, first = Muon([whole]), Muon([halves])
    for step in range(4):
        if step == 2:
            state = copy.deepcopy(first.state_dict())
            first = Muon([halves], lr=1.0)
            first.load_state_dict(state)
        for parameter, stepper in ((whole, optimizer), (halves, first)):
            parameter.grad = seeded(5, 7, seed=step)
            stepper.step()
    assert torch.equal(whole, halves)


@pytest.mark.parametrize("bad", [{"lr": 0}, {"lr": -1}, {"momentum": 1}, {"momentum": -0.1}])
def test_muon_refuses_impossible_values(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Muon([nn.Parameter(torch.ones(2, 2))], **bad)


def test_muon_refuses_vectors() -> None:
    with pytest.raises(ValueError, match="another optimizer"):
        Muon([nn.Parameter(torch.ones(3))])


Schedule = Callable[[float], float]
TorchSchedule = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]


def rates_of(schedule: Schedule, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.3)
    rates = []
    for step in range(steps + 1):
        set_learning_rate(optimizer, schedule(step / steps))
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def torch_rates(build: TorchSchedule, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.3)
    scheduler = build(optimizer)
    rates = []
    for _ in range(steps + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("steps", [7, 40])
def test_schedules_equal_torchs_at_every_step(steps: int) -> None:
    of = torch.optim.lr_scheduler
    assert rates_of(constant, steps) == [0.3] * (steps + 1)
    assert rates_of(cosine(), steps) == pytest.approx(
        torch_rates(lambda o: of.CosineAnnealingLR(o, steps), steps), abs=1e-12
    )
    assert rates_of(cosine(end=0.1), steps) == pytest.approx(
        torch_rates(lambda o: of.CosineAnnealingLR(o, steps, eta_min=0.03), steps), abs=1e-12
    )
    assert rates_of(linear(end=0.25), steps) == pytest.approx(
        torch_rates(lambda o: of.LinearLR(o, 1.0, 0.25, total_iters=steps), steps), abs=1e-12
    )


def test_warm_up_joins_the_fall_as_torchs_sequence_does() -> None:
    of, warm, steps = torch.optim.lr_scheduler, 10, 40

    def sequence(fall: TorchSchedule) -> TorchSchedule:
        return lambda o: of.SequentialLR(o, [of.LambdaLR(o, lambda s: 0.2 + 0.8 * s / warm), fall(o)], [warm])

    theirs = torch_rates(sequence(lambda o: of.LinearLR(o, 1.0, 0.1, total_iters=steps - warm)), steps)
    assert rates_of(linear(warmup=0.25, start=0.2, end=0.1), steps) == pytest.approx(theirs, abs=1e-12)
    theirs = torch_rates(
        lambda o: of.SequentialLR(
            o, [of.LambdaLR(o, lambda s: s / warm), of.CosineAnnealingLR(o, steps - warm)], [warm]
        ),
        steps,
    )
    assert rates_of(cosine(warmup=0.25), steps) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("schedule", [linear(0.3, 0.1, 0.2), cosine(0.3, 0.2)])
def test_schedules_peak_once_and_stay_between_their_ends(schedule: Schedule) -> None:
    values = [schedule(i / 1000) for i in range(1001)]
    assert max(values) == pytest.approx(1.0)
    assert values.index(max(values)) == 300
    assert values[-1] == pytest.approx(0.2)
    assert min(values) >= 0


def test_the_inverse_square_root_is_equation_3_of_the_transformers_paper() -> None:
    dim, warmup_steps, steps = 512, 4000, 100_000
    multiplier = inverse_sqrt(warmup=warmup_steps / steps)
    for step in (1, 100, 3999, 4000, 4001, 16_000, steps):
        paper = dim**-0.5 * min(step**-0.5, step * warmup_steps**-1.5)
        assert (dim * warmup_steps) ** -0.5 * multiplier(step / steps) == pytest.approx(paper, rel=1e-12)
    for warmup in (0.0, -0.1, 1.1):
        with pytest.raises(ValueError, match="0 < warmup ≤ 1"):
            inverse_sqrt(warmup)


def test_each_group_keeps_its_own_base_rate() -> None:
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))], "lr": lr} for lr in (1.0, 0.1)], lr=5.0)
    for multiplier in (0.5, 0.25):
        set_learning_rate(optimizer, multiplier)
        assert [group["lr"] for group in optimizer.param_groups] == [multiplier, 0.1 * multiplier]


def network() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()


def test_average_equals_torchs_once_warm() -> None:
    model = network()
    ours = ExponentialMovingAverage(model, 0.5)
    ours.steps = 100  # past the warm-up, in which torch has none
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    theirs.n_averaged.fill_(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(6):
        optimizer.zero_grad()
        model(seeded(8, 3, seed=step, dtype=torch.float64)).square().mean().backward()
        optimizer.step()
        ours.update(model)
        theirs.update_parameters(model)
    expected = theirs.module.state_dict()
    expected["1.num_batches_tracked"] = model.state_dict()["1.num_batches_tracked"]  # a count is copied
    torch.testing.assert_close(dict(ours.model.state_dict()), dict(expected))


def test_early_average_follows_closely() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = ExponentialMovingAverage(model, 0.999)
    nn.init.ones_(model.weight)
    average.update(model)
    (weight,) = average.model.parameters()
    assert weight.item() == pytest.approx(1 - 2 / 11)
    average.update(model)
    assert weight.item() == pytest.approx(1 - 2 / 11 * 3 / 12)


def test_tied_weights_are_averaged_once() -> None:
    embedding, head = nn.Embedding(3, 2), nn.Linear(2, 3, bias=False)
    head.weight = embedding.weight
    model = nn.ModuleDict({"embedding": embedding, "head": head})
    nn.init.zeros_(head.weight)
    average = ExponentialMovingAverage(model, 0.5)
    average.steps = 100
    nn.init.ones_(head.weight)
    average.update(model)
    assert isinstance(average.model, nn.ModuleDict)
    torch.testing.assert_close(average.model["head"].weight, torch.full((3, 2), 0.5))
    assert average.model["head"].weight is average.model["embedding"].weight


def test_average_is_restored_from_its_state() -> None:
    model = network()
    average = ExponentialMovingAverage(model, 0.9)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    average.update(model)
    other = ExponentialMovingAverage(network(), 0.9)
    other.load_state_dict(copy.deepcopy(average.state_dict()))
    assert other.steps == 1
    torch.testing.assert_close(other.model.state_dict(), average.model.state_dict())
    assert not other.model.training
    assert not any(parameter.requires_grad for parameter in other.model.parameters())


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_average_refuses_impossible_decay(decay: float) -> None:
    with pytest.raises(ValueError, match="decay"):
        ExponentialMovingAverage(network(), decay)
