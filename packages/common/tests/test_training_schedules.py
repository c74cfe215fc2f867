"""Step, one cycle, warm restarts and WSD against torch's schedulers at every step; the range test."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from dlcommon.training.lr_finder import RangeTest, learning_rate_range_test
from dlcommon.training.schedules import Schedule, linear, one_cycle, set_learning_rate, step, warm_restarts, wsd
from torch import nn
from torch.optim import lr_scheduler

TorchSchedule = Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]
BASE = 0.3


def ours(schedule: Schedule, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=BASE)
    rates = []
    for number in range(steps):
        set_learning_rate(optimizer, schedule(number / steps))
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def torchs(build: TorchSchedule, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=BASE)
    scheduler, rates = build(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("steps", [10, 70])
def test_step_equals_torchs(steps: int) -> None:
    theirs = torchs(lambda o: lr_scheduler.StepLR(o, step_size=steps // 5, gamma=0.3), steps)
    assert ours(step((0.2, 0.4, 0.6, 0.8), 0.3), steps) == pytest.approx(theirs, abs=1e-12)
    theirs = torchs(lambda o: lr_scheduler.MultiStepLR(o, [steps // 2, steps * 9 // 10], gamma=0.1), steps)
    assert ours(step((0.5, 0.9)), steps) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("steps", [10, 60])
def test_one_cycle_equals_torchs(steps: int) -> None:
    total = steps + 1  # torch's last step is progress 1

    def build(optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        return lr_scheduler.OneCycleLR(optimizer, BASE, total_steps=total, pct_start=0.3, cycle_momentum=False)

    rise = (0.3 * total - 1) / steps
    assert ours(one_cycle(rise), steps) == pytest.approx(torchs(build, steps), abs=1e-12)
    assert BASE * one_cycle(rise)(1.0) == pytest.approx(torchs(build, total)[-1], abs=1e-12)


@pytest.mark.parametrize(("cycles", "growth", "first"), [(3, 1, 10), (3, 2, 7), (2, 3, 5), (1, 1, 9), (4, 2, 1)])
def test_warm_restarts_equal_torchs(cycles: int, growth: int, first: int) -> None:
    steps = sum(first * growth**cycle for cycle in range(cycles))
    theirs = torchs(
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=first, T_mult=growth, eta_min=0.1 * BASE), steps
    )
    schedule = warm_restarts(cycles, growth, end=0.1)
    assert ours(schedule, steps) == pytest.approx(theirs, abs=1e-12)
    assert schedule(1.0) == pytest.approx(0.1)  # the last cycle is not restarted


def test_wsd_equals_torchs_sequence() -> None:
    steps, warm, fall = 50, 5, 10

    def build(optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        rise = lr_scheduler.LambdaLR(optimizer, lambda number: number / warm)
        stable = lr_scheduler.ConstantLR(optimizer, factor=1.0)
        decay = lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=fall)
        return lr_scheduler.SequentialLR(optimizer, [rise, stable, decay], [warm, steps - fall])

    assert ours(wsd(warm / steps, fall / steps, end=0.1), steps) == pytest.approx(torchs(build, steps), abs=1e-12)
    assert wsd(0.0, 0.0)(1.0) == 1.0
    assert wsd(0.5, 0.5)(0.5) == 1.0


def test_wsds_end_can_be_chosen_late() -> None:
    short, long = 100, 400  # steps; both warm up for 10 and decay for 20
    early, late = wsd(10 / short, 20 / short), wsd(10 / long, 20 / long)
    assert [early(n / short) for n in range(81)] == pytest.approx([late(n / long) for n in range(81)])
    branch = linear()  # from a checkpoint at step 80
    assert [early((80 + n) / short) for n in range(20)] == pytest.approx([branch(n / 20) for n in range(20)])


@pytest.mark.parametrize("milestones", [(0.5, 0.5), (0.9, 0.5), (0.0,), (1.0,), (-0.1, 0.5)])
def test_step_refuses_milestones_that_do_not_rise(milestones: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="rising fractions"):
        step(milestones)


def test_impossible_shapes_are_refused() -> None:
    for warmup in (0.0, 1.0):
        with pytest.raises(ValueError, match="0 < warmup < 1"):
            one_cycle(warmup)
    for cycles, growth in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            warm_restarts(cycles, growth)
    for warmup, decay in ((0.6, 0.5), (-0.1, 0.5), (0.1, -0.5)):
        with pytest.raises(ValueError, match="together 1 at most"):
            wsd(warmup, decay)


class Bowl(nn.Module):
    """Loss curvature / 2 · w²: descent diverges from a rate of 2 / curvature on."""

    def __init__(self, curvature: float) -> None:
        super().__init__()
        self.curvature, self.weight = curvature, nn.Parameter(torch.ones(1, dtype=torch.float64))


def bowl_test(curvature: float, **options: float) -> RangeTest:
    bowl = Bowl(curvature)
    optimizer = torch.optim.SGD(bowl.parameters(), lr=0.5, momentum=0.0)
    chosen = {"lowest": 1e-5, "highest": 10.0, "smoothing": 0.0, **options}
    return learning_rate_range_test(bowl, optimizer, [None], bowl_loss, steps=200, **chosen)


def bowl_loss(network: nn.Module, batch: None) -> torch.Tensor:
    assert isinstance(network, Bowl)
    return (0.5 * network.curvature * network.weight.square()).sum()


@pytest.mark.parametrize("curvature", [1.0, 20.0])
def test_the_range_test_finds_where_descent_diverges(curvature: float) -> None:
    found = bowl_test(curvature)
    ratio = (10.0 / 1e-5) ** (1 / 199)
    # The loss falls as long as each update's rate is below 2 / curvature; the first to rise is after the next one.
    assert found.lowest == pytest.approx(2 / curvature * ratio, rel=ratio - 1)
    assert found.steepest < found.lowest
    assert found.rates[-1] < 10.0  # it has ended early


def test_the_range_test_follows_torchs_exponential_rate_and_plain_descent() -> None:
    found, steps = bowl_test(1.0), 50
    bowl = Bowl(1.0)
    optimizer = torch.optim.SGD(bowl.parameters(), lr=1e-5)
    scheduler = lr_scheduler.ExponentialLR(optimizer, (10.0 / 1e-5) ** (1 / 199))
    rates, losses = [], []
    for _ in range(steps):
        loss = bowl_loss(bowl, None)
        rates.append(optimizer.param_groups[0]["lr"])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    assert found.rates[:steps] == pytest.approx(rates, rel=1e-9)
    assert found.losses[:steps] == pytest.approx(losses, rel=1e-9)
    assert found.smoothed == found.losses
    averaged = bowl_test(1.0, smoothing=0.5)
    assert averaged.smoothed[1] == pytest.approx((0.25 * averaged.losses[0] + 0.5 * averaged.losses[1]) / 0.75)


def test_the_range_test_leaves_network_and_optimizer_as_they_were() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    x = torch.randn(2, 8, 3)
    network(x[0]).square().mean().backward()
    optimizer.step()
    weights, state = copy.deepcopy(network.state_dict()), copy.deepcopy(optimizer.state_dict())
    found = learning_rate_range_test(
        network, optimizer, x, lambda net, batch: net(batch).square().mean(), lowest=1e-3, highest=1.0, steps=9
    )
    assert len(found.rates) == len(found.losses) == len(found.smoothed) >= 2
    torch.testing.assert_close(network.state_dict(), weights, rtol=0, atol=0)
    torch.testing.assert_close(optimizer.state_dict(), state, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_range_test_refuses_what_cannot_be_tested() -> None:
    for options in ({"lowest": 0.0}, {"lowest": 1.0, "highest": 0.5}):
        with pytest.raises(ValueError, match="0 < lowest < highest"):
            bowl_test(1.0, **options)
    bowl = Bowl(1.0)
    optimizer = torch.optim.SGD(bowl.parameters(), lr=1.0)
    with pytest.raises(ValueError, match="at least one batch"):
        learning_rate_range_test(bowl, optimizer, [], bowl_loss, 0.1, 1.0, 5)
    with pytest.raises(FloatingPointError, match="begin with a lower one"):
        bowl_test(math.inf)
