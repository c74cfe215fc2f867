"""Numerical derivatives: slow and inexact, but independent of any formula, as a test needs.

Everything is float64.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from dlcommon.mathematics.arrays import Floats

EPS = np.finfo(np.float64).eps


def forward_difference(function: Callable[..., Any], x: Floats | float, step: Floats | float) -> Floats:
    """Computes (f(x + h) − f(x)) / h.

    Error ≈ h |f″| / 2 + ε |f| / h: smallest near h = √ε, where half the digits are lost.
    """
    result: Floats = (function(x + step) - function(x)) / step
    return result


def central_difference(function: Callable[..., Any], x: Floats | float, step: Floats | float) -> Floats:
    """Computes (f(x + h) − f(x − h)) / 2h.

    Error ≈ h² |f‴| / 6 + ε |f| / h: smallest near h = ε^⅓.
    """
    result: Floats = (function(x + step) - function(x - step)) / (2 * step)
    return result


def complex_step(function: Callable[..., Any], x: Floats | float, step: Floats | float) -> Floats:
    """Computes Im f(x + ih) / h (Squire & Trapp 1998).

    Nothing is subtracted, so h may be tiny. The function must be analytic and written for complex numbers:
    no |x|, no max, no comparison.
    """
    result: Floats = np.imag(function(x + 1j * np.asarray(step))) / step
    return result


def numerical_jacobian(function: Callable[[Floats], Floats | float], x: Floats) -> Floats:
    """Computes ∂f / ∂x by central differences with h = ε^⅓ max(1, |xᵢ|): two calls per element of x.

    Args:
        function: maps an array of x's shape to an array or number; must not keep or change its argument.
        x: the point.

    Returns:
        [*shape of f(x), *shape of x].
    """
    point = np.array(x, dtype=np.float64)
    columns = []
    for index in np.ndindex(point.shape):
        center = float(point[index])
        step = EPS ** (1 / 3) * max(1.0, abs(center))
        above, below = center + step, center - step
        point[index] = above
        high = np.array(function(point), dtype=np.float64)
        point[index] = below
        low = np.array(function(point), dtype=np.float64)
        point[index] = center
        columns.append((high - low) / (above - below))  # the step really taken, after rounding
    return np.stack(columns, axis=-1).reshape(*columns[0].shape, *point.shape)


def numerical_gradient(function: Callable[[Floats], float], x: Floats) -> Floats:
    """Computes the gradient of a function whose value is one number, in x's shape.

    Raises:
        ValueError: the value is an array.
    """
    jacobian = numerical_jacobian(function, x)
    if jacobian.shape != np.shape(x):
        raise ValueError("only a function to a single number has a gradient; use numerical_jacobian")
    return jacobian


def numerical_hessian(gradient: Callable[[Floats], Floats], x: Floats) -> Floats:
    """Computes second derivatives [n, n] from an exact gradient [n].

    Differences of differences would keep four digits only.
    """
    jacobian = numerical_jacobian(gradient, x)
    return (jacobian + jacobian.T) / 2
