"""Scaling laws: a language model's loss as a function of its parameters, its training tokens, or its training compute.

The form is L = E + sum over j of A_j / x_j^alpha_j. With parameters and tokens as x it is equation 2 of Hoffmann et al.
2022 (https://arxiv.org/abs/2203.15556), known as Chinchilla; with compute alone as x it is a power law with a floor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

FloatArray = NDArray[np.float64]


def training_flops(parameters: float, tokens: float) -> float:
    """Estimates the floating-point operations of a training run: 6 for each parameter and token.

    Forward multiplies and adds once for each parameter; backward does it twice, for the gradients of the weights and of
    the inputs. The products of attention scores and values are left out (Kaplan et al. 2020, section 2.1).
    """
    return 6.0 * parameters * tokens


@dataclass(frozen=True)
class ScalingLaw:
    """Holds E, A_j and alpha_j of L = E + sum over j of A_j / x_j^alpha_j."""

    floor: float
    """E: the loss that no model gets below, in nats, the entropy of the text."""
    coefficients: tuple[float, ...]
    exponents: tuple[float, ...]

    def loss(self, *sizes: ArrayLike) -> FloatArray:
        """Computes the loss, in nats per token, of sizes x_1, x_2, … that are numbers or arrays of one shape."""
        terms = (
            coefficient * np.asarray(size, dtype=np.float64) ** -exponent
            for coefficient, exponent, size in zip(self.coefficients, self.exponents, sizes, strict=True)
        )
        return np.asarray(self.floor + sum(terms), dtype=np.float64)


CHINCHILLA = ScalingLaw(1.69, (406.4, 410.7), (0.34, 0.28))
"""As published: Hoffmann et al. 2022, equation 10; x is parameters and tokens."""
CHINCHILLA_REFITTED = ScalingLaw(1.8172, (482.01, 2085.43), (0.3478, 0.3658))
"""Fitted to the same runs by Besiroglu et al. 2024 (https://arxiv.org/abs/2404.10102)."""


def fit_scaling_law(sizes: ArrayLike, losses: ArrayLike, huber_delta: float | None = None) -> ScalingLaw:
    """Fits a law to measured losses by least squares of log(prediction) - log(loss).

    The logarithm of the sum is computed from the logarithms of its terms, which keeps E and A_j positive and the
    problem well scaled (Hoffmann et al. 2022, equation 3). It has local minima, so the best of many starts is taken.

    Args:
        sizes: [points, inputs], or [points] for one input.
        losses: [points], in nats per token.
        huber_delta: error in log(loss) from which on it counts linearly and no longer as a square, so that outliers
            weigh less; Hoffmann et al. take 0.001.

    Raises:
        ValueError: a number is not positive, or there are fewer points than constants.
    """
    x = np.asarray(sizes, dtype=np.float64)
    x = x[:, None] if x.ndim == 1 else x
    y = np.asarray(losses, dtype=np.float64)
    points, inputs = x.shape
    if points < 2 * inputs + 1:
        raise ValueError(f"{points} points cannot determine the {2 * inputs + 1} constants of the law; measure more")
    if not ((x > 0).all() and (y > 0).all()):
        raise ValueError("sizes and losses must be positive")
    # Sizes relative to their mean, so that the coefficients do not change with the exponents.
    center = np.log(x).mean(axis=0)
    log_x, log_y = np.log(x) - center, np.log(y)

    def errors(constants: FloatArray) -> FloatArray:  # log E, log A_1 …, alpha_1 …
        logs, exponents = constants[1 : inputs + 1], constants[inputs + 1 :]
        terms = np.column_stack([np.full(points, constants[0]), logs - exponents * log_x])  # [points, inputs + 1]
        return np.asarray(np.logaddexp.reduce(terms, axis=1) - log_y, dtype=np.float64)

    best = None
    for share, *exponents in product((0.1, 0.5, 0.9), *[(0.1, 0.5, 1.0)] * inputs):
        rest = np.log((1 - share) * y.mean() / inputs)  # what the floor leaves, shared by the terms
        start = [np.log(share * y.min()), *[rest] * inputs, *exponents]
        found = least_squares(
            errors, start, loss="linear" if huber_delta is None else "huber", f_scale=huber_delta or 1.0
        )
        if best is None or found.cost < best.cost:
            best = found
    assert best is not None
    logs, exponents = best.x[1 : inputs + 1], best.x[inputs + 1 :]
    coefficients = np.exp(logs + exponents * center)
    return ScalingLaw(float(np.exp(best.x[0])), _floats(coefficients), _floats(exponents))


def compute_optimal(law: ScalingLaw, flops: float) -> tuple[float, float]:
    """Divides compute between parameters and tokens so that the loss is lowest.

    Where 6 N D is fixed, the derivative of A / N^alpha + B / D^beta with respect to N is zero at
    N = (alpha A / (beta B))^(1 / (alpha + beta)) (C / 6)^(beta / (alpha + beta)) (Hoffmann et al. 2022, equation 4).

    Args:
        law: of parameters and tokens.
        flops: C, floating-point operations of the training run.

    Returns:
        Parameters N and tokens D.
    """
    (a, b), (alpha, beta) = law.coefficients, law.exponents
    parameters = (alpha * a / (beta * b)) ** (1 / (alpha + beta)) * (flops / 6) ** (beta / (alpha + beta))
    return parameters, flops / (6 * parameters)


def _floats(values: Sequence[float] | FloatArray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
