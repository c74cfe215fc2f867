"""Gradient descent that keeps its path, for study; `dlcommon.pytorch_core.optimizers` is for training."""

from collections.abc import Callable

import numpy as np


def descend(
    gradient: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    lr: float,
    steps: int,
    momentum: float = 0.0,
    nesterov: bool = False,
) -> np.ndarray:
    """Iterates v ← βv + ∇f(x), x ← x − ηv (Polyak 1964); Nesterov's variant steps by ∇f(x) + βv (Sutskever 2013).

    Args:
        gradient: of the function.
        start: any shape.
        lr: η.
        steps: number of updates.
        momentum: β.
        nesterov: uses Nesterov's variant.

    Returns:
        All points [steps + 1, *shape], the start first; a diverging path ends in infinities or NaN.

    Raises:
        ValueError: `lr` is not positive, or momentum not in [0, 1).
    """
    if not lr > 0:
        raise ValueError(f"lr must be positive, not {lr}")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be at least 0 and below 1, not {momentum}")
    path = [np.array(start, dtype=np.float64)]
    velocity = np.zeros_like(path[0])
    for _ in range(steps):
        slope = gradient(path[-1])
        velocity = momentum * velocity + slope
        path.append(path[-1] - lr * (slope + momentum * velocity if nesterov else velocity))
    return np.stack(path)


def optimal_lr(smallest: float, largest: float) -> tuple[float, float]:
    """Computes the learning rate that makes plain descent fastest on curvatures between two positive eigenvalues.

    Returns:
        η = 2 / (λmin + λmax), and the factor (κ − 1) / (κ + 1) by which the distance then shrinks per step, where
        κ = λmax / λmin (Nesterov 2004, theorem 2.1.15).
    """
    return 2 / (smallest + largest), (largest - smallest) / (largest + smallest)


def optimal_momentum(smallest: float, largest: float) -> tuple[float, float, float]:
    """Computes the learning rate and momentum that make descent fastest on such curvatures (Polyak 1964).

    Returns:
        η = 4 / (√λmax + √λmin)², β = ((√κ − 1) / (√κ + 1))², and the asymptotic factor √β per step.
    """
    low, high = smallest**0.5, largest**0.5
    factor = (high - low) / (high + low)
    return 4 / (high + low) ** 2, factor**2, factor
