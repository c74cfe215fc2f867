"""Gradient descent with its path kept, to look at on surfaces. For training see the optimizers of phase 3."""

from collections.abc import Callable

import numpy as np


def descend(
    gradient: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    rate: float,
    steps: int,
    momentum: float = 0.0,
    nesterov: bool = False,
) -> np.ndarray:
    """v ← βv + ∇f(x), x ← x − ηv (Polyak 1964); Nesterov's variant steps by ∇f(x) + βv (Sutskever et al. 2013).

    Args:
        start: any shape.

    Returns:
        All points [steps + 1, *shape], the start first. A diverging path ends in what float64 makes of it.

    Raises:
        ValueError: rate is not positive, or momentum not in [0, 1).
    """
    if not rate > 0:
        raise ValueError(f"rate must be positive, not {rate}")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be at least 0 and below 1, not {momentum}")
    path = [np.array(start, dtype=np.float64)]
    velocity = np.zeros_like(path[0])
    for _ in range(steps):
        slope = gradient(path[-1])
        velocity = momentum * velocity + slope
        path.append(path[-1] - rate * (slope + momentum * velocity if nesterov else velocity))
    return np.stack(path)


def best_rate(smallest: float, largest: float) -> tuple[float, float]:
    """The learning rate with which plain descent is fastest on curvatures between these two (eigenvalues, positive).

    Returns:
        η = 2 / (λmin + λmax), and the factor (κ − 1) / (κ + 1) by which the distance then shrinks a step, where
        κ = λmax / λmin (Nesterov 2004, theorem 2.1.15).
    """
    return 2 / (smallest + largest), (largest - smallest) / (largest + smallest)


def best_momentum(smallest: float, largest: float) -> tuple[float, float, float]:
    """The same with momentum (Polyak 1964).

    Returns:
        η = 4 / (√λmax + √λmin)², β = ((√κ − 1) / (√κ + 1))², and the factor √β a step in the long run.
    """
    low, high = smallest**0.5, largest**0.5
    factor = (high - low) / (high + low)
    return 4 / (high + low) ** 2, factor**2, factor
