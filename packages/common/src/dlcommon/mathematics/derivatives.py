"""Derivatives by differences: slow, inexact, and independent of any formula, which is what a test wants.

Everything is float64.
"""

from collections.abc import Callable

import numpy as np

EPSILON = np.finfo(np.float64).eps


def forward_difference(function: Callable, x: float, step: np.ndarray) -> np.ndarray:
    """(f(x + h) − f(x)) / h. Error ≈ h |f″| / 2 + ε |f| / h: smallest near h = √ε, where half the digits are lost."""
    return (function(x + step) - function(x)) / step


def central_difference(function: Callable, x: float, step: np.ndarray) -> np.ndarray:
    """(f(x + h) − f(x − h)) / 2h. Error ≈ h² |f‴| / 6 + ε |f| / h: smallest near h = ε^⅓."""
    return (function(x + step) - function(x - step)) / (2 * step)


def complex_step(function: Callable, x: float, step: np.ndarray) -> np.ndarray:
    """Im f(x + ih) / h. Nothing is subtracted, so h may be tiny (Squire & Trapp 1998).

    The function must be analytic and written for complex numbers: no |x|, no max, no comparison.
    """
    return np.imag(function(x + 1j * np.asarray(step))) / step


def numerical_jacobian(function: Callable[[np.ndarray], np.ndarray | float], x: np.ndarray) -> np.ndarray:
    """∂f / ∂x by central differences with h = ε^⅓ max(1, |xᵢ|): two calls an element of x.

    Args:
        function: from an array of x's shape to an array or number; must not keep or change its argument.

    Returns:
        [*shape of f(x), *shape of x].
    """
    point = np.array(x, dtype=np.float64)
    columns = []
    for index in np.ndindex(point.shape):
        centre = float(point[index])
        step = EPSILON ** (1 / 3) * max(1.0, abs(centre))
        above, below = centre + step, centre - step
        point[index] = above
        high = np.array(function(point), dtype=np.float64)
        point[index] = below
        low = np.array(function(point), dtype=np.float64)
        point[index] = centre
        columns.append((high - low) / (above - below))  # what was really stepped, after rounding
    return np.stack(columns, axis=-1).reshape(*columns[0].shape, *point.shape)


def numerical_gradient(function: Callable[[np.ndarray], float], x: np.ndarray) -> np.ndarray:
    """The Jacobian of a function whose value is one number, in x's own shape.

    Raises:
        ValueError: the value is an array.
    """
    jacobian = numerical_jacobian(function, x)
    if jacobian.shape != np.shape(x):
        raise ValueError("only a function to a single number has a gradient; use numerical_jacobian")
    return jacobian


def numerical_hessian(gradient: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """Second derivatives [n, n] from an exact gradient [n]: differences of differences would keep four digits."""
    jacobian = numerical_jacobian(gradient, x)
    return (jacobian + jacobian.T) / 2
