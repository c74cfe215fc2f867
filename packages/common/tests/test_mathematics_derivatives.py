"""Numerical derivatives against torch's exact ones, and gradient descent against torch.optim."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from dlcommon.mathematics.derivatives import (
    central_difference,
    complex_step,
    forward_difference,
    numerical_gradient,
    numerical_hessian,
    numerical_jacobian,
)
from dlcommon.mathematics.descent import descend, optimal_lr, optimal_momentum


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize(
    ("difference", "order", "step"),
    [(forward_difference, 1, 1e-3), (central_difference, 2, 1e-2), (complex_step, 2, 1e-2)],
)
def test_the_error_falls_with_the_order_of_the_rule(difference: Callable[..., Any], order: int, step: float) -> None:
    errors = [abs(difference(np.sin, 1.0, h) - math.cos(1.0)) for h in (step, step / 10)]
    assert errors[0] / errors[1] == pytest.approx(10**order, rel=0.05)


def test_a_complex_step_may_be_tiny() -> None:
    assert complex_step(np.exp, 1.0, 1e-200) == pytest.approx(math.e, rel=1e-15)


def test_jacobian_equals_torchs() -> None:
    def ours(x: np.ndarray) -> np.ndarray:
        return np.stack([np.sin(x).sum(), x[0] @ x[1], np.exp(x[1, 2])])

    def theirs(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.sin(x).sum(), x[0] @ x[1], torch.exp(x[1, 2])])

    point = normal(2, 3)
    found = numerical_jacobian(ours, point)
    assert found.shape == (3, 2, 3)
    np.testing.assert_allclose(found, torch.autograd.functional.jacobian(theirs, torch.tensor(point)), atol=1e-9)


def test_gradient_and_hessian_equal_torchs() -> None:
    matrix = torch.tensor(normal(4, 4))

    def loss(x: torch.Tensor) -> torch.Tensor:
        return (matrix @ x).exp().sum() + x.prod()

    point = 0.5 * normal(4, seed=1)
    tensor = torch.tensor(point)
    gradient = numerical_gradient(lambda x: float(loss(torch.tensor(x))), point)
    np.testing.assert_allclose(gradient, torch.autograd.functional.jacobian(loss, tensor), rtol=1e-7)

    def exact(x: np.ndarray) -> np.ndarray:
        jacobian: torch.Tensor = torch.autograd.functional.jacobian(loss, torch.tensor(x))
        return jacobian.numpy()

    found = numerical_hessian(exact, point)
    np.testing.assert_allclose(found, torch.autograd.functional.hessian(loss, tensor), rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(found, found.T)


def test_the_argument_is_left_as_it_was_and_may_be_huge() -> None:
    point = np.array([1e8, -2.0])
    np.testing.assert_allclose(numerical_jacobian(lambda x: x**2, point), np.diag([2e8, -4.0]), rtol=1e-8)
    np.testing.assert_array_equal(point, [1e8, -2.0])


def test_only_a_number_has_a_gradient() -> None:
    def vector_valued(x: np.ndarray) -> Any:
        return 2 * x

    with pytest.raises(ValueError, match="numerical_jacobian"):
        numerical_gradient(vector_valued, np.ones(3))


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_descent_takes_torchs_steps(momentum: float, nesterov: bool) -> None:
    def loss(x: torch.Tensor) -> torch.Tensor:
        return (x**4).sum() + x.prod()

    start = normal(3)
    path = descend(
        lambda x: torch.autograd.functional.jacobian(loss, torch.tensor(x)).numpy(), start, 0.01, 20, momentum, nesterov
    )
    parameter = torch.tensor(start, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=0.01, momentum=momentum, nesterov=nesterov)
    for point in path[1:]:
        optimizer.zero_grad()
        loss(parameter).backward()
        optimizer.step()
        np.testing.assert_allclose(point, parameter.detach(), rtol=1e-10)


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"lr": -1.0}, {"momentum": 1.0}, {"momentum": -0.1}])
def test_descent_refuses_impossible_settings(bad: dict[str, float]) -> None:
    settings: dict[str, Any] = {"lr": 0.1, "steps": 1, **bad}
    with pytest.raises(ValueError, match=next(iter(bad))):
        descend(lambda x: x, np.ones(1), **settings)


def test_the_best_settings_shrink_a_quadratic_by_the_promised_factor_and_neighbours_do_worse() -> None:
    curvatures = np.array([1.0, 7.0, 100.0])

    def shrink(rate: float, momentum: float) -> float:
        distances = np.linalg.norm(descend(lambda x: curvatures * x, np.ones(3), rate, 220, momentum), axis=1)
        return float((distances[220] / distances[120]) ** (1 / 100))

    rate, factor = optimal_lr(1.0, 100.0)
    assert shrink(rate, 0.0) == pytest.approx(factor, rel=1e-6)
    assert min(shrink(rate * 0.9, 0.0), shrink(rate * 1.009, 0.0)) > factor
    rate, momentum, factor = optimal_momentum(1.0, 100.0)
    # Both ends are double roots there: factorᵗ comes with a factor t, and a spiral with phases.
    assert shrink(rate, momentum) == pytest.approx(factor, rel=0.02)
    assert shrink(rate, momentum * 0.8) > factor + 0.02
