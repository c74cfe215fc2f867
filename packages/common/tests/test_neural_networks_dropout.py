"""Dropout against torch's from the same random state: values and gradients."""

import pytest
import torch
from dlcommon.neural_networks.dropout import Dropout, dropout, monte_carlo_dropout
from torch import nn
from torch.nn import functional as F


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_torch_in_value_and_gradient(p: float, dtype: torch.dtype) -> None:
    x = torch.randn(40, 30, dtype=dtype, generator=torch.Generator().manual_seed(0))
    upstream = torch.randn(40, 30, dtype=dtype, generator=torch.Generator().manual_seed(1))
    results = []
    for drop in (lambda x: Dropout(p)(x), lambda x: F.dropout(x, p)):
        torch.manual_seed(2)
        inputs = x.clone().requires_grad_()
        y = drop(inputs)
        results.append((y.detach(), torch.autograd.grad(y, inputs, upstream)[0]))
    (y, gradient), (expected, expected_gradient) = results
    assert torch.equal(y, expected)
    assert torch.equal(gradient, expected_gradient)


def test_a_generator_decides_and_the_global_one_is_left_alone() -> None:
    x, before = torch.ones(100), torch.get_rng_state()
    first, second = (dropout(x, 0.5, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_expectation_and_variance() -> None:
    """Each element is 0 or x/(1 − p): mean x, variance x²·p/(1 − p)."""
    p, draws = 0.3, 200_000
    x = torch.tensor([1.0, -2.0], dtype=torch.float64)
    y = dropout(x.expand(draws, 2), p, torch.Generator().manual_seed(0))
    variance = x.square() * p / (1 - p)
    assert ((y.mean(0) - x).abs() < 5 * (variance / draws).sqrt()).all()
    torch.testing.assert_close(y.var(0), variance, rtol=0.02, atol=0)


def test_nothing_is_dropped_in_evaluation_or_with_share_0() -> None:
    x = torch.randn(5, 4)
    assert Dropout(0.9).eval()(x) is x
    assert Dropout(0.0)(x) is x
    assert torch.equal(dropout(x, 0.0), x)


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_impossible_shares_are_refused(p: float) -> None:
    with pytest.raises(ValueError, match="probability must lie"):
        Dropout(p)
    with pytest.raises(ValueError, match="probability must lie"):
        dropout(torch.ones(2), p)


def test_monte_carlo_draws_dropout_and_nothing_else() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(64).eval()
    network = nn.Sequential(nn.Linear(4, 64), norm, nn.ReLU(), Dropout(0.5), nn.Linear(64, 2))
    assert norm.running_mean is not None
    norm.running_mean += 0.1
    statistics = norm.running_mean.clone()
    modes = [module.training for module in network.modules()]
    x = torch.randn(6, 4)
    samples = monte_carlo_dropout(network, x, 2000)
    assert samples.shape == (2000, 6, 2)
    assert not samples.requires_grad
    assert (samples.std(0) > 0).all()
    assert torch.equal(norm.running_mean, statistics)
    assert [module.training for module in network.modules()] == modes
    # Behind the dropout everything is linear: the mean of the samples is the whole network's output.
    error = samples.std(0) / 2000**0.5
    assert ((samples.mean(0) - network.eval()(x)).abs() < 5 * error).all()


def test_monte_carlo_with_torchs_dropout() -> None:
    network = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 1)).eval()
    assert (monte_carlo_dropout(network, torch.ones(3, 8), 20).std(0) > 0).all()
    assert not network[0].training
