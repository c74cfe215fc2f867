"""Penalties against torch's and scikit-learn's: values, gradients, steps, and paths of linear models."""

import numpy as np
import pytest
import torch
from dlcommon.neural_networks import regularization as ours
from sklearn.linear_model import Lasso, Ridge
from torch import nn
from torch.nn import functional as F


def weights() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_() for shape in ((4, 3), (5,))]


def test_penalties_are_the_norms_in_value_and_gradient() -> None:
    parameters = weights()
    flat = torch.cat([parameter.flatten() for parameter in parameters])
    references = ((ours.l1_penalty, F.l1_loss), (ours.l2_penalty, lambda *x, **o: F.mse_loss(*x, **o) / 2))
    for penalty, reference in references:
        expected = reference(flat, torch.zeros_like(flat), reduction="sum")
        torch.testing.assert_close(penalty(parameters), expected, rtol=1e-12, atol=0)
        for gradient, wanted in zip(
            torch.autograd.grad(penalty(parameters), parameters),
            torch.autograd.grad(expected, parameters, retain_graph=True),
            strict=True,
        ):
            torch.testing.assert_close(gradient, wanted, rtol=1e-12, atol=0)


def test_penalties_take_a_generator() -> None:
    parameters = weights()
    assert ours.l1_penalty(p for p in parameters).item() == ours.l1_penalty(parameters).item()
    assert ours.l2_penalty(p for p in parameters).item() == ours.l2_penalty(parameters).item()


def test_l2_in_the_loss_is_weight_decay_in_sgd() -> None:
    paths = []
    for decay, penalty in ((0.0, 0.3), (0.3, 0.0)):
        parameters = weights()
        optimizer = torch.optim.SGD(parameters, lr=0.001, momentum=0.9, weight_decay=decay)
        for _ in range(20):
            optimizer.zero_grad()
            loss = sum((parameter - 1).pow(4).sum() for parameter in parameters)
            (loss + penalty * ours.l2_penalty(parameters)).backward()
            optimizer.step()
        paths.append(torch.cat([parameter.detach().flatten() for parameter in parameters]))
    torch.testing.assert_close(*paths, rtol=1e-12, atol=1e-14)


def test_soft_threshold_is_torchs_softshrink_in_value_and_gradient() -> None:
    x = torch.linspace(-2, 2, 41, dtype=torch.float64, requires_grad=True)
    for t in (0.31, 1.7):  # no element lies on the kink
        torch.testing.assert_close(ours.soft_threshold(x, t), F.softshrink(x, t))
        (gradient,) = torch.autograd.grad(ours.soft_threshold(x, t).sum(), x)
        (expected,) = torch.autograd.grad(F.softshrink(x, t).sum(), x)
        torch.testing.assert_close(gradient, expected)


def regression(samples: int = 80, count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Correlated features, three of which matter."""
    random = np.random.default_rng(0)
    x = random.standard_normal((samples, count)) @ (np.eye(count) + 0.4 * random.standard_normal((count, count)))
    y = x[:, :3] @ np.array([3.0, -2.0, 1.0]) + random.standard_normal(samples)
    return x - x.mean(0), y - y.mean()


def test_ridge_path_is_scikit_learns() -> None:
    x, y = regression()
    alphas = [0.1, 1.0, 10.0, 1000.0]
    expected = [Ridge(alpha=alpha, solver="cholesky").fit(x, y).coef_ for alpha in alphas]
    np.testing.assert_allclose(ours.ridge_path(x, y, alphas), expected, rtol=1e-9)


def test_ridge_path_with_more_features_than_samples() -> None:
    x, y = regression(samples=6)
    expected = Ridge(alpha=0.5, fit_intercept=False).fit(x, y).coef_
    np.testing.assert_allclose(ours.ridge_path(x, y, [0.5])[0], expected, rtol=1e-8, atol=1e-12)


def test_lasso_path_is_scikit_learns() -> None:
    x, y = regression()
    alphas = np.geomspace(1.01 * np.abs(x.T @ y).max() / len(y), 1e-3, 12)
    path = ours.lasso_path(x, y, alphas)
    expected = np.stack([Lasso(alpha=alpha, tol=1e-12, max_iter=200_000).fit(x, y).coef_ for alpha in alphas])
    # scikit-learn stops at a duality gap of 1e-12 of ‖y‖², where the weights are right to about its root.
    np.testing.assert_allclose(path, expected, rtol=1e-5, atol=1e-6)
    assert not path[0].any()
    assert ((path != 0) == (expected != 0)).all()
    assert 0 < (path[5] != 0).sum() < 12


def test_lasso_meets_the_optimality_conditions() -> None:
    """|Xᵀ(y − Xw)|/n is at most α, and α with w's sign where w is not 0."""
    x, y = regression()
    for alpha in (0.05, 0.5):
        (w,) = ours.lasso_path(x, y, [alpha], tol=1e-12)
        slope = x.T @ (y - x @ w) / len(y)
        assert (np.abs(slope) <= alpha + 1e-9).all()
        np.testing.assert_allclose(slope[w != 0], alpha * np.sign(w[w != 0]), rtol=1e-8)


def test_proximal_descent_ends_at_the_lasso() -> None:
    x, y = regression()
    alpha = 0.4
    features, target = torch.from_numpy(x), torch.from_numpy(y)
    w = torch.zeros(12, dtype=torch.float64, requires_grad=True)
    rate = len(y) / torch.linalg.matrix_norm(features, 2).item() ** 2
    optimizer = torch.optim.SGD([w], lr=rate)
    for _ in range(3000):
        optimizer.zero_grad()
        ((features @ w - target).square().mean() / 2).backward()
        optimizer.step()
        ours.proximal_l1_step_([w], rate * alpha)
    (expected,) = ours.lasso_path(x, y, [alpha], tol=1e-12)
    np.testing.assert_allclose(w.detach().numpy(), expected, rtol=1e-6, atol=1e-12)
    assert (w == 0).any()


def test_a_constant_feature_gets_no_weight() -> None:
    x, y = regression()
    x[:, 4] = 0
    assert ours.lasso_path(x, y, [0.01])[0, 4] == 0
    assert ours.ridge_path(x, y, [0.01])[0, 4] == pytest.approx(0, abs=1e-12)


def test_impossible_strengths_and_too_few_sweeps_are_named() -> None:
    x, y = regression()
    for path in (ours.ridge_path, ours.lasso_path):
        with pytest.raises(ValueError, match="positive, not -1"):
            path(x, y, [1.0, -1.0])
    with pytest.raises(ArithmeticError, match=r"2 sweeps at alpha 0\.001"):
        ours.lasso_path(x, y, [0.001], max_iter=2)


def test_decay_groups_hold_every_trained_parameter_once() -> None:
    network = nn.Sequential(nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 3))
    network[4].weight = network[2].weight
    network[2].bias.requires_grad_(False)
    decayed, rest = ours.param_groups_weight_decay(network, 0.1)
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    assert [id(p) for p in decayed["params"]] == [id(network[0].weight), id(network[2].weight)]
    names = {"0.bias", "1.weight", "1.bias", "3.weight", "3.bias", "4.bias"}
    assert {id(p) for p in rest["params"]} == {id(p) for n, p in network.named_parameters() if n in names}
    torch.optim.AdamW([decayed, rest])
    assert len(ours.param_groups_weight_decay(nn.Linear(2, 2, bias=False), 0.1)) == 1
