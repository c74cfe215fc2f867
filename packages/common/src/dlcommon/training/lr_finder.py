"""The learning-rate range test: one short training with a rate that rises from far too low to far too high.

Smith 2017 (https://arxiv.org/abs/1506.01186, section 3.3), with exponential instead of linear growth, so that all
orders of magnitude get the same number of steps.
"""

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class RangeTest:
    """Holds the learning rates of a range test and the losses that they led to, one for each step."""

    rates: list[float]
    losses: list[float]
    """Loss of each batch, before the update with its rate."""
    smoothed: list[float]
    """Exponential moving average of the losses, corrected for its start at 0."""

    @property
    def steepest(self) -> float:
        """The rate at which the smoothed loss falls most from one step to the next, before it is lowest."""
        end = max(self.smoothed.index(min(self.smoothed)), 1)
        falls = [a - b for a, b in pairwise(self.smoothed[: end + 1])]
        return self.rates[falls.index(max(falls))]

    @property
    def lowest(self) -> float:
        """The rate at which the smoothed loss is lowest, on the verge of divergence.

        A constant rate is usually a tenth to a third of it; a schedule that decays may begin nearer to it.
        """
        return self.rates[self.smoothed.index(min(self.smoothed))]


def learning_rate_range_test(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Any],
    loss_of: Callable[[nn.Module, Any], torch.Tensor],
    lowest: float,
    highest: float,
    steps: int,
    smoothing: float = 0.9,
    diverged: float = 4.0,
) -> RangeTest:
    """Trains with rates that rise by the same factor at each step, then puts network and optimizer back as they were.

    Args:
        network: to test with; it keeps its weights and buffers.
        optimizer: of its parameters; all groups get the same rate, and its state is restored.
        batches: at least one; they are repeated if there are fewer than steps.
        loss_of: maps network and batch to a scalar loss.
        lowest: rate of the first step.
        highest: rate of the last step.
        steps: number of updates, at least 2.
        smoothing: how much of its last value the average of the losses keeps, in [0, 1).
        diverged: the test ends when the smoothed loss is this many times the lowest so far, or is not finite.

    Raises:
        ValueError: the rates do not rise from above 0, there are too few steps, or there is no batch.
        FloatingPointError: the loss diverges in the first two steps.
    """
    if not 0 < lowest < highest or steps < 2:
        raise ValueError(f"the test needs 0 < lowest < highest and 2 steps, not {lowest}, {highest} and {steps} steps")
    given = list(batches)
    if not given:
        raise ValueError("the test needs at least one batch")
    weights = copy.deepcopy(network.state_dict())
    state = copy.deepcopy(optimizer.state_dict())
    found, average = RangeTest([], [], []), 0.0
    for step in range(steps):
        rate = lowest * (highest / lowest) ** (step / (steps - 1))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = loss_of(network, given[step % len(given)])
        average = smoothing * average + (1 - smoothing) * loss.item()
        smoothed = average / (1 - smoothing ** (step + 1))
        if not math.isfinite(smoothed) or (found.smoothed and smoothed > diverged * min(found.smoothed)):
            break
        found.rates.append(rate)
        found.losses.append(loss.item())
        found.smoothed.append(smoothed)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    optimizer.zero_grad()
    network.load_state_dict(weights)
    optimizer.load_state_dict(state)
    if len(found.rates) < 2:
        raise FloatingPointError(f"the training diverged at a rate of {lowest:g}; begin with a lower one")
    return found
