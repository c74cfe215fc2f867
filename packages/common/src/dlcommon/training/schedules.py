"""Learning-rate schedules as plain functions of progress.

Each maps the progress of training, in [0, 1], to a multiplier of the base learning rate, so that one schedule works for
a budget in steps, epochs or minutes, and has no state.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch

Schedule = Callable[[float], float]
"""Maps progress in [0, 1] to a multiplier of the base learning rate."""


def constant(progress: float) -> float:
    """Returns 1 at any progress."""
    return 1.0


def linear(warmup: float = 0.0, start: float = 0.0, end: float = 0.0) -> Schedule:
    """Builds a schedule that rises linearly from `start` to 1 over the fraction `warmup`, then falls to `end`."""

    def multiplier(progress: float) -> float:
        if progress < warmup:
            return start + (1 - start) * progress / warmup
        return 1 + (end - 1) * (progress - warmup) / (1 - warmup)

    return multiplier


def cosine(warmup: float = 0.0, end: float = 0.0) -> Schedule:
    """Builds a schedule of linear warm-up, then half a cosine to `end` (Loshchilov & Hutter 2017, equation 5)."""

    def multiplier(progress: float) -> float:
        if progress < warmup:
            return progress / warmup
        angle = math.pi * min((progress - warmup) / (1 - warmup), 1.0)
        return end + (1 - end) * 0.5 * (1 + math.cos(angle))

    return multiplier


def inverse_sqrt(warmup: float) -> Schedule:
    """Builds a schedule of linear warm-up, then √(warmup / progress) (Vaswani et al. 2017, equation 3).

    The paper's rate, dim^−0.5 · min(step^−0.5, step · warmup_steps^−1.5), is this with the base learning rate
    (dim · warmup_steps)^−0.5, which it reaches at the end of the warm-up.

    Raises:
        ValueError: `warmup` is not a fraction above 0: the rate falls from the warm-up's end on.
    """
    if not 0 < warmup <= 1:
        raise ValueError(f"the inverse square root starts at the end of the warm-up: 0 < warmup ≤ 1, not {warmup}")

    def multiplier(progress: float) -> float:
        return progress / warmup if progress < warmup else math.sqrt(warmup / progress)

    return multiplier


def step(milestones: Sequence[float], gamma: float = 0.1) -> Schedule:
    """Builds a schedule that multiplies the rate by `gamma` at each milestone, a fraction of the training.

    Raises:
        ValueError: the milestones do not rise, or are not within (0, 1).
    """
    bounds = (0.0, *milestones, 1.0)
    if any(left >= right for left, right in pairwise(bounds)):
        raise ValueError(f"milestones are rising fractions of the training, above 0 and below 1, not {milestones}")

    def multiplier(progress: float) -> float:
        return gamma ** bisect_right(milestones, progress)

    return multiplier


def one_cycle(warmup: float = 0.3, start: float = 1 / 25, end: float = 4e-6) -> Schedule:
    """Builds a schedule that rises by half a cosine from `start` to 1, then falls by another to `end`.

    Smith & Topin 2018 (https://arxiv.org/abs/1708.07120), with torch's cosines; in the paper the lines are straight.
    torch's `OneCycleLR` counts its `pct_start` in steps of which the last is omitted: its rise ends at step
    pct_start · total_steps − 1 of the total_steps − 1 that are progress 1 here.

    Raises:
        ValueError: `warmup` is not within (0, 1).
    """
    if not 0 < warmup < 1:
        raise ValueError(f"one cycle rises, then falls: 0 < warmup < 1, not {warmup}")

    def multiplier(progress: float) -> float:
        if progress < warmup:
            return start + (1 - start) * 0.5 * (1 - math.cos(math.pi * progress / warmup))
        return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))

    return multiplier


def warm_restarts(cycles: int, growth: int = 1, end: float = 0.0) -> Schedule:
    """Builds SGDR: half a cosine from 1 to `end` in each cycle, after which the rate jumps back to 1.

    Loshchilov & Hutter 2017 (https://arxiv.org/abs/1608.03983, equation 5); the last cycle ends with the training, when
    the rate and the loss are lowest.

    Args:
        cycles: number of cycles, at least 1.
        growth: each cycle is this many times as long as the one before.
        end: multiplier at the end of a cycle.

    Raises:
        ValueError: `cycles` or `growth` is below 1.
    """
    if cycles < 1 or growth < 1:
        raise ValueError(f"cycles and growth must be at least 1, not {cycles} and {growth}")
    # Quotients of whole numbers: a step that ends a cycle has the very same quotient, without a rounding error between.
    total = sum(growth**cycle for cycle in range(cycles))
    bounds = [sum(growth**cycle for cycle in range(before)) / total for before in range(cycles + 1)]

    def multiplier(progress: float) -> float:
        cycle = min(bisect_right(bounds, progress), cycles) - 1
        fraction = (progress - bounds[cycle]) / (bounds[cycle + 1] - bounds[cycle])
        return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * fraction))

    return multiplier


def wsd(warmup: float = 0.0, decay: float = 0.2, end: float = 0.0) -> Schedule:
    """Builds a schedule of linear warm-up, a stable rate of 1, and a linear fall to `end` over the last part.

    Warm-up–stable–decay (Hu et al. 2024, https://arxiv.org/abs/2404.06395). Until the fall the rate does not depend on
    the training's length, so that the end can be chosen late: a checkpoint of the stable part is trained further, or
    is brought to an end with `linear(end=end)`.

    Args:
        warmup: fraction of the training in which the rate rises.
        decay: fraction in which it falls.
        end: multiplier at the end.

    Raises:
        ValueError: a fraction is negative, or both together are more than 1.
    """
    if warmup < 0 or decay < 0 or warmup + decay > 1:
        raise ValueError(f"warmup and decay are parts of the training, together 1 at most, not {warmup} and {decay}")

    def multiplier(progress: float) -> float:
        if progress < warmup:
            return progress / warmup
        if progress <= 1 - decay:
            return 1.0
        return 1 + (end - 1) * (progress - (1 - decay)) / decay

    return multiplier


def set_learning_rate(optimizer: torch.optim.Optimizer, multiplier: float) -> None:
    """Sets each group's learning rate to its base rate (kept as `initial_lr`, as torch's schedulers do) times it."""
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * multiplier
