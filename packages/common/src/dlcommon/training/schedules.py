"""Learning-rate schedules as plain functions of progress.

Each maps the progress of training, in [0, 1], to a multiplier of the base learning rate, so that one schedule works for
a budget in steps, epochs or minutes, and has no state.
"""

import math
from collections.abc import Callable

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


def set_learning_rate(optimizer: torch.optim.Optimizer, multiplier: float) -> None:
    """Sets each group's learning rate to its base rate (kept as `initial_lr`, as torch's schedulers do) times it."""
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * multiplier
