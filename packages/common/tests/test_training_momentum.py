"""Theory of momentum on quadratics against what eigenvalues, searches and the stationary covariance say."""

import numpy as np
import pytest
import torch
from dlcommon.mathematics.descent import optimal_lr, optimal_momentum
from dlcommon.pytorch_core.optimizers import SGD
from dlcommon.training.momentum import convergence_factor, noise_floor, optimal_nesterov
from scipy.linalg import solve_discrete_lyapunov


def step_matrix(curvature: float, lr: float, momentum: float, nesterov: bool) -> torch.Tensor:
    """The linear map of one step of our SGD on (distance, velocity), [2, 2], read off by steps from unit vectors."""
    columns = []
    for distance, velocity in ((1.0, 0.0), (0.0, 1.0)):
        x = torch.tensor([distance], dtype=torch.float64, requires_grad=True)
        optimizer = SGD([x], lr=lr, momentum=momentum, nesterov=nesterov)
        optimizer.state[x] = {"momentum_buffer": torch.tensor([velocity], dtype=torch.float64)}
        x.grad = curvature * x.detach()
        optimizer.step()
        columns.append(torch.cat((x.detach(), optimizer.state[x]["momentum_buffer"])))
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize("nesterov", [False, True], ids=["heavy-ball", "nesterov"])
@pytest.mark.parametrize("momentum", [0.05, 0.5, 0.9])
def test_the_factor_is_the_largest_eigenvalue_of_a_step(momentum: float, nesterov: bool) -> None:
    curvatures = [0.1, 1.0, 3.0, 9.0, 25.0]  # from slow over oscillating to diverging
    largest = [
        torch.linalg.eigvals(step_matrix(curvature, 0.1, momentum, nesterov)).abs().max().item()
        for curvature in curvatures
    ]
    factors = convergence_factor(torch.tensor(curvatures, dtype=torch.float64), 0.1, momentum, nesterov)
    assert factors.tolist() == pytest.approx(largest, rel=1e-6)


def test_without_momentum_it_is_that_of_plain_descent() -> None:
    curvatures = torch.tensor([0.5, 1.0, 20.0, 21.0], dtype=torch.float64)
    torch.testing.assert_close(convergence_factor(curvatures, 0.1), (1 - 0.1 * curvatures).abs())


@pytest.mark.parametrize("kappa", [4.0, 100.0, 1000.0])
def test_no_rate_and_momentum_of_a_grid_are_faster_than_the_optimal_ones(kappa: float) -> None:
    curvatures = torch.tensor([1.0, kappa], dtype=torch.float64)
    lr = torch.linspace(0.2, 4, 77, dtype=torch.float64)[:, None, None] / kappa
    momentum = torch.linspace(0, 0.995, 200, dtype=torch.float64)[None, :, None]
    for nesterov, optimal in ((False, optimal_momentum), (True, optimal_nesterov)):
        rate, best, factor = optimal(1.0, kappa)
        # A double root is as sensitive as a square root.
        assert convergence_factor(curvatures, rate, best, nesterov).max().item() == pytest.approx(factor, abs=1e-7)
        searched = convergence_factor(curvatures, lr, momentum, nesterov).amax(dim=2)
        assert factor - 1e-9 < searched.min().item() < factor + 0.2 * (1 - factor)
    rate, factor = optimal_lr(1.0, kappa)
    assert convergence_factor(curvatures, rate).max().item() == pytest.approx(factor)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_floor_is_that_of_the_stationary_covariance(momentum: float) -> None:
    curvatures, variances, lr = torch.tensor([0.2, 1.0, 8.0]).double(), torch.tensor([3.0, 1.0, 0.5]).double(), 0.1
    expected = 0.0
    for curvature, variance in zip(curvatures.tolist(), variances.tolist(), strict=True):
        one_step = step_matrix(curvature, lr, momentum, False).numpy() if momentum else np.diag([1 - lr * curvature, 0])
        noise = np.array([-lr, 1.0])  # a gradient that is too large by 1 enters the distance and the velocity
        covariance = solve_discrete_lyapunov(one_step, variance * np.outer(noise, noise))
        expected += curvature / 2 * covariance[0, 0]
    assert noise_floor(curvatures, variances, lr, momentum).item() == pytest.approx(expected, rel=1e-9)


def test_a_diverging_rate_has_no_floor() -> None:
    curvatures, variances = torch.tensor([1.0, 21.0]), torch.ones(2)
    assert noise_floor(curvatures, variances, 0.1).item() == torch.inf
    assert noise_floor(curvatures, variances, 0.1, momentum=0.5).isfinite()
