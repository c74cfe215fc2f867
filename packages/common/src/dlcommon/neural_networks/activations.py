"""Activation functions and their derivatives, elementwise on NumPy arrays, equal to torch's.

All map any shape to the same, keep the input's dtype, float32 or float64, and are finite for inputs up to ±1e30 at
least. Where a function has a corner, its derivative there is the one that torch takes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, ndtr

from dlcommon.mathematics.arrays import Floats

Elementwise = Callable[[Floats], Floats]

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
"""With these, mean 0 and variance 1 of normal inputs stay 0 and 1 (Klambauer et al. 2017, equation 14)."""
TANH_GELU = math.sqrt(2 / math.pi), 0.044715
"""√(2/π) and the coefficient of x³ in GELU's tanh approximation."""


@dataclass(frozen=True)
class Activation:
    """Pairs an elementwise function with its derivative."""

    name: str
    """As in torch.nn.functional; gelu_tanh is its gelu with approximate="tanh"."""
    function: Elementwise
    derivative: Elementwise

    def __call__(self, x: Floats) -> Floats:
        return self.function(x)


def sigmoid(x: Floats) -> Floats:
    """Computes σ(x) = 1 / (1 + e⁻ˣ)."""
    return np.asarray(expit(x))


def sigmoid_derivative(x: Floats) -> Floats:
    """Computes σ(x) σ(−x); as σ (1 − σ) the right tail would be rounded to 0."""
    return sigmoid(x) * sigmoid(-x)


def tanh_derivative(x: Floats) -> Floats:
    """Computes 1 − tanh²(x) = 4 σ(2x) σ(−2x)."""
    return 4 * sigmoid_derivative(2 * x)


def relu(x: Floats) -> Floats:
    """Computes max(x, 0)."""
    return np.maximum(x, 0)


def relu_derivative(x: Floats) -> Floats:
    """Computes 1 where x is positive, else 0."""
    return (x > 0).astype(x.dtype)


def leaky_relu(x: Floats, negative_slope: float = 0.01) -> Floats:
    """Computes x, or `negative_slope` times it where it is negative (Maas et al. 2013)."""
    return np.where(x > 0, x, negative_slope * x)


def leaky_relu_derivative(x: Floats, negative_slope: float = 0.01) -> Floats:
    """Computes 1 where x is positive, else `negative_slope`."""
    return np.where(x > 0, np.ones_like(x), np.full_like(x, negative_slope))


def elu(x: Floats) -> Floats:
    """Computes x, or eˣ − 1 where it is negative (Clevert et al. 2016, https://arxiv.org/abs/1511.07289)."""
    # The minimum keeps the branch that is not taken from overflowing.
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def elu_derivative(x: Floats) -> Floats:
    """Computes 1, or eˣ where x is negative."""
    return np.exp(np.minimum(x, 0))


def selu(x: Floats) -> Floats:
    """Computes ELU with both sides scaled (Klambauer et al. 2017, https://arxiv.org/abs/1706.02515)."""
    return SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0)))


def selu_derivative(x: Floats) -> Floats:
    """Computes λ, or λ α eˣ where x is not positive."""
    return SELU_SCALE * np.where(x > 0, np.ones_like(x), SELU_ALPHA * np.exp(np.minimum(x, 0)))


def softplus(x: Floats) -> Floats:
    """Computes log(1 + eˣ), a ReLU without the corner; its derivative is the sigmoid."""
    return np.logaddexp(x, np.zeros_like(x))


def normal_pdf(x: Floats) -> Floats:
    """Computes φ(x), the density of the standard normal distribution."""
    bounded = np.clip(x, -40, 40)  # the square would overflow; beyond 40 the density is 0 even in float64
    return np.exp(-np.square(bounded) / 2) / math.sqrt(2 * math.pi)


def normal_cdf(x: Floats) -> Floats:
    """Computes Φ(x), the probability that a standard normal variable is below x."""
    return np.asarray(ndtr(x))


def gelu(x: Floats) -> Floats:
    """Computes x Φ(x) (Hendrycks & Gimpel 2016, https://arxiv.org/abs/1606.08415)."""
    return x * normal_cdf(x)


def gelu_derivative(x: Floats) -> Floats:
    """Computes Φ(x) + x φ(x)."""
    return normal_cdf(x) + x * normal_pdf(x)


def gelu_tanh(x: Floats) -> Floats:
    """Computes x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2, GELU as BERT and GPT-2 compute it."""
    return x * sigmoid(2 * _cubic(x))  # (1 + tanh u) / 2 = σ(2u)


def gelu_tanh_derivative(x: Floats) -> Floats:
    """Computes σ(2u) + 2 x u′ σ′(2u) with u = √(2/π) (x + 0.044715 x³)."""
    scale, cube = TANH_GELU
    bounded = np.clip(x, -40, 40)
    slope = scale * (1 + 3 * cube * np.square(bounded))
    return sigmoid(2 * _cubic(x)) + 2 * bounded * slope * sigmoid_derivative(2 * _cubic(x))


def _cubic(x: Floats) -> Floats:
    """Computes √(2/π) (x + 0.044715 x³)."""
    scale, cube = TANH_GELU
    bounded = np.clip(x, -40, 40)  # the cube would overflow; the sigmoid is 0 or 1 long before
    return scale * (bounded + cube * bounded**3)


def silu(x: Floats) -> Floats:
    """Computes x σ(x), also called swish (Elfwing et al. 2018, Ramachandran et al. 2017)."""
    return x * sigmoid(x)


def silu_derivative(x: Floats) -> Floats:
    """Computes σ(x) (1 + x σ(−x))."""
    return sigmoid(x) * (1 + x * sigmoid(-x))


def mish(x: Floats) -> Floats:
    """Computes x tanh(softplus(x)) (Misra 2020, https://arxiv.org/abs/1908.08681)."""
    return x * np.tanh(softplus(x))


def mish_derivative(x: Floats) -> Floats:
    """Computes tanh(s) + x (1 − tanh²(s)) σ(x) with s = softplus(x)."""
    return np.tanh(softplus(x)) + x * tanh_derivative(softplus(x)) * sigmoid(x)


def hardswish(x: Floats) -> Floats:
    """Computes x relu6(x + 3) / 6, SiLU without an exponential, for phones (Howard et al. 2019)."""
    return x * np.clip(x / 6 + 0.5, 0, 1)


def hardswish_derivative(x: Floats) -> Floats:
    """Computes 0 up to −3, x / 3 + 1 / 2 between −3 and 3, and 1 from 3 on."""
    return np.where(x <= -3, np.zeros_like(x), np.where(x < 3, x / 3 + 0.5, np.ones_like(x)))


SIGMOID = Activation("sigmoid", sigmoid, sigmoid_derivative)
TANH = Activation("tanh", np.tanh, tanh_derivative)
RELU = Activation("relu", relu, relu_derivative)
LEAKY_RELU = Activation("leaky_relu", leaky_relu, leaky_relu_derivative)
ELU = Activation("elu", elu, elu_derivative)
SELU = Activation("selu", selu, selu_derivative)
SOFTPLUS = Activation("softplus", softplus, sigmoid)
GELU = Activation("gelu", gelu, gelu_derivative)
GELU_TANH = Activation("gelu_tanh", gelu_tanh, gelu_tanh_derivative)
SILU = Activation("silu", silu, silu_derivative)
MISH = Activation("mish", mish, mish_derivative)
HARDSWISH = Activation("hardswish", hardswish, hardswish_derivative)

ACTIVATIONS = (SIGMOID, TANH, RELU, LEAKY_RELU, ELU, SELU, SOFTPLUS, GELU, GELU_TANH, SILU, MISH, HARDSWISH)
