"""Activations and their derivatives against torch's, at random points, at corners and far out."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from dlcommon.mathematics import functional
from dlcommon.mathematics.autograd import Variable
from dlcommon.mathematics.derivatives import central_difference
from dlcommon.neural_networks.activations import ACTIVATIONS, RELU, SIGMOID, TANH, Activation
from torch.nn import functional as F

CORNERS = np.array([0.0, -3.0, 3.0])
FAR = np.array([-1e30, -1000.0, -120.0, -30.0, 30.0, 120.0, 1000.0, 1e30])


def torchs(activation: Activation, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    function = {"gelu_tanh": partial(F.gelu, approximate="tanh")}.get(activation.name)
    tensor = torch.tensor(x, requires_grad=True)
    value = (function or getattr(F, activation.name))(tensor)
    (slope,) = torch.autograd.grad(value.sum(), tensor)
    return value.detach().numpy(), slope.numpy()


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.name)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-6)])
def test_value_and_derivative_are_torchs(
    activation: Activation, dtype: type[np.floating[Any]], tolerance: float
) -> None:
    normal = 3 * np.random.default_rng(0).standard_normal((40, 50))
    x = np.append(normal, CORNERS).astype(dtype)
    value, slope = torchs(activation, x)
    np.testing.assert_allclose(activation(x), value, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(activation.derivative(x), slope, rtol=tolerance, atol=tolerance)
    assert activation(x).dtype == activation.derivative(x).dtype == dtype
    assert activation(normal).shape == activation.derivative(normal).shape == normal.shape


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.name)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_far_out_nothing_overflows(activation: Activation, dtype: type[np.floating[Any]]) -> None:
    x = FAR.astype(dtype)
    with np.errstate(over="raise", invalid="raise"):
        value, slope = activation(x), activation.derivative(x)
    assert np.isfinite(value).all()
    left = 0.01 if activation.name == "leaky_relu" else 0.0
    right = {"sigmoid": 0.0, "tanh": 0.0, "selu": 1.0507009873554805}.get(activation.name, 1.0)
    np.testing.assert_allclose(slope, [left] * 4 + [right] * 4, atol=1e-10)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.name)
def test_derivative_is_the_functions_own(activation: Activation) -> None:
    x = np.random.default_rng(1).uniform(-5, 5, 200)
    x = x[np.abs(x[:, None] - CORNERS).min(1) > 1e-3]  # differences across a corner mean nothing
    np.testing.assert_allclose(activation.derivative(x), central_difference(activation, x, 1e-5), atol=1e-9)


@pytest.mark.parametrize(
    ("activation", "engine"), [(RELU, functional.relu), (TANH, functional.tanh), (SIGMOID, functional.sigmoid)]
)
def test_the_autograd_engine_has_the_same_functions(
    activation: Activation, engine: Callable[[Variable], Variable]
) -> None:
    x = np.append(np.random.default_rng(2).standard_normal(50), CORNERS)
    variable = Variable(x)
    result = engine(variable)
    result.sum().backward()
    np.testing.assert_allclose(activation(x), result.data, atol=1e-15)
    assert variable.grad is not None
    np.testing.assert_allclose(activation.derivative(x), variable.grad, atol=1e-15)


def test_the_tails_keep_their_digits() -> None:
    x = np.array([-40.0, 40.0])
    np.testing.assert_allclose(SIGMOID(x), [np.exp(-40.0), 1.0], rtol=1e-12)
    np.testing.assert_allclose(SIGMOID.derivative(x), np.exp(-40.0), rtol=1e-12)
    np.testing.assert_allclose(TANH.derivative(x / 2), 4 * np.exp(-40.0), rtol=1e-12)


def test_names_are_different() -> None:
    assert len({activation.name for activation in ACTIVATIONS}) == len(ACTIVATIONS)
