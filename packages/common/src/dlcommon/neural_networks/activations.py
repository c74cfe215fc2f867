"""Activation functions and their derivatives, element by element on NumPy arrays, equal to torch's.

All keep the input's dtype, float32 or float64, and are finite for inputs up to ±1e30 at least. Where a function has a
corner, its derivative there is the one that torch takes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, ndtr

Elementwise = Callable[[np.ndarray], np.ndarray]

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
"""With these, mean 0 and variance 1 of normal inputs stay 0 and 1 (Klambauer et al. 2017, equation 14)."""
TANH_GELU = math.sqrt(2 / math.pi), 0.044715


@dataclass(frozen=True)
class Activation:
    """A function and its derivative, both from an array to one of the same shape."""

    name: str
    """torch.nn.functional's; gelu_tanh is its gelu with approximate="tanh"."""
    function: Elementwise
    derivative: Elementwise

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.function(x)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e⁻ˣ)."""
    return expit(x)


def sigmoid_derivative(x: np.ndarray) -> np.ndarray:
    """σ(x) σ(−x); as σ (1 − σ) the right tail would be rounded to 0."""
    return expit(x) * expit(-x)


def tanh_derivative(x: np.ndarray) -> np.ndarray:
    """1 − tanh² = 4 σ(2x) σ(−2x)."""
    return 4 * sigmoid_derivative(2 * x)


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def relu_derivative(x: np.ndarray) -> np.ndarray:
    return (x > 0).astype(x.dtype)


def leaky_relu(x: np.ndarray, slope: float = 0.01) -> np.ndarray:
    """x, or a hundredth of it where it is negative (Maas et al. 2013)."""
    return np.where(x > 0, x, slope * x)


def leaky_relu_derivative(x: np.ndarray, slope: float = 0.01) -> np.ndarray:
    return np.where(x > 0, np.ones_like(x), np.full_like(x, slope))


def elu(x: np.ndarray) -> np.ndarray:
    """x, or eˣ − 1 where it is negative (Clevert et al. 2016)."""
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def elu_derivative(x: np.ndarray) -> np.ndarray:
    return np.exp(np.minimum(x, 0))


def selu(x: np.ndarray) -> np.ndarray:
    """ELU with both sides scaled (Klambauer et al. 2017)."""
    return SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0)))


def selu_derivative(x: np.ndarray) -> np.ndarray:
    return SELU_SCALE * np.where(x > 0, np.ones_like(x), SELU_ALPHA * np.exp(np.minimum(x, 0)))


def softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + eˣ), a ReLU without the corner; its derivative is the sigmoid."""
    return np.logaddexp(x, np.zeros_like(x))


def normal_density(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.square(np.clip(x, -40, 40)) / 2) / math.sqrt(2 * math.pi)  # beyond 40 it is 0 also in float64


def gelu(x: np.ndarray) -> np.ndarray:
    """x Φ(x): x times the chance that a standard normal is below it (Hendrycks & Gimpel 2016)."""
    return x * ndtr(x)


def gelu_derivative(x: np.ndarray) -> np.ndarray:
    """Φ(x) + x φ(x)."""
    return ndtr(x) + x * normal_density(x)


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2, GELU as BERT and GPT-2 computed it."""
    return x * expit(2 * _cubic(x))


def gelu_tanh_derivative(x: np.ndarray) -> np.ndarray:
    scale, cube = TANH_GELU
    bounded = np.clip(x, -40, 40)
    slope = scale * (1 + 3 * cube * np.square(bounded))
    return expit(2 * _cubic(x)) + 2 * bounded * slope * sigmoid_derivative(2 * _cubic(x))


def _cubic(x: np.ndarray) -> np.ndarray:
    scale, cube = TANH_GELU
    bounded = np.clip(x, -40, 40)  # the cube would overflow; the sigmoid is 0 or 1 long before
    return scale * (bounded + cube * bounded**3)


def silu(x: np.ndarray) -> np.ndarray:
    """x σ(x), also called swish (Elfwing et al. 2018, Ramachandran et al. 2017)."""
    return x * expit(x)


def silu_derivative(x: np.ndarray) -> np.ndarray:
    """σ(x) (1 + x σ(−x))."""
    return expit(x) * (1 + x * expit(-x))


def mish(x: np.ndarray) -> np.ndarray:
    """x tanh(softplus(x)) (Misra 2020)."""
    return x * np.tanh(softplus(x))


def mish_derivative(x: np.ndarray) -> np.ndarray:
    return np.tanh(softplus(x)) + x * tanh_derivative(softplus(x)) * expit(x)


def hardswish(x: np.ndarray) -> np.ndarray:
    """x relu6(x + 3) / 6: SiLU without an exponential, for phones (Howard et al. 2019)."""
    return x * np.clip(x / 6 + 0.5, 0, 1)


def hardswish_derivative(x: np.ndarray) -> np.ndarray:
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
