"""Learning-rate schedules as plain functions of progress.

Each takes the progress of training in [0, 1] and returns a multiplier of the base learning rate, so that the
same schedule serves a budget in steps, epochs or minutes, and needs no state of its own.
"""

import math
from collections.abc import Callable

import torch

Schedule = Callable[[float], float]


def constant(progress: float) -> float:
    return 1.0


def linear(warmup: float = 0.0, start: float = 0.0, end: float = 0.0) -> Schedule:
    """Rises from `start` to 1 over the fraction `warmup`, then falls linearly to `end` (a triangle)."""

    def multiplier(progress: float) -> float:
        if progress < warmup:
            return start + (1 - start) * progress / warmup
        return 1 + (end - 1) * (progress - warmup) / (1 - warmup)

    return multiplier


def cosine(warmup: float = 0.0, end: float = 0.0) -> Schedule:
    """Linear warm-up, then half a cosine down to `end` (Loshchilov & Hutter 2017, equation 5)."""

    def multiplier(progress: float) -> float:
        if progress < warmup:
            return progress / warmup
        angle = math.pi * min((progress - warmup) / (1 - warmup), 1.0)
        return end + (1 - end) * 0.5 * (1 + math.cos(angle))

    return multiplier


def set_learning_rate(optimizer: torch.optim.Optimizer, multiplier: float) -> None:
    """Sets each group's rate to its base rate (remembered as `initial_lr`) times the multiplier."""
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * multiplier
