"""The networks: causality, what they start as, that they learn where there is something to learn."""

import numpy as np
import pytest
import torch
from dlcommon.forecasting.backtest import walk_forward
from dlcommon.forecasting.baselines import Naive
from dlcommon.forecasting.compare import compare
from dlcommon.forecasting.networks import TCN, CausalBlock, DLinear
from dlcommon.forecasting.neural import NETWORKS, NeuralForecaster, quantile_loss
from dlcommon.forecasting.scores import LEVELS, MEDIAN, pinball_loss
from torch.nn import functional as F

START = torch.linspace(-1, 1, len(LEVELS)).expand(2, -1)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_fresh_network_forecasts_the_same_for_every_window(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name](32, START)
    quantiles = network(torch.randn(5, 32))
    assert quantiles.shape == (5, 2, len(LEVELS))
    torch.testing.assert_close(quantiles, START.expand(5, -1, -1))


def test_a_causal_block_sees_no_later_step_and_all_that_it_should() -> None:
    torch.manual_seed(0)
    block = CausalBlock(2, 4, kernel_size=3, dilation=2).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.abs_()  # no ReLU is closed, so that what is connected shows
    x = torch.rand(1, 2, 20, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(block(x)[0, :, 12].sum(), x)
    seen = gradient[0].abs().sum(dim=0).nonzero().flatten().tolist()
    assert seen == [4, 6, 8, 10, 12]


def test_a_tcn_sees_as_far_back_as_it_says() -> None:
    torch.manual_seed(0)
    network = TCN(START).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
        network.head.weight.fill_(1.0)
    window = torch.rand(1, 40, dtype=torch.float64, requires_grad=True)
    # Over the values alone: through the changes, one more step before the first is seen.
    (gradient,) = torch.autograd.grad(network(window).sum(), window)
    seen = gradient[0].nonzero().flatten()
    assert 40 - seen.min().item() in (29, 30)


def test_dlinear_equals_its_definition_and_is_linear() -> None:
    torch.manual_seed(0)
    network = DLinear(12, START[:1], kernel_size=5).double()
    for head in (network.trend, network.remainder):
        torch.nn.init.normal_(head.weight)
    window = torch.randn(3, 12, dtype=torch.float64)
    padded = torch.cat([window[:, :1].expand(-1, 2), window, window[:, -1:].expand(-1, 2)], dim=1)
    trend = padded.unfold(1, 5, 1).mean(dim=2)
    expected = F.linear(trend, network.trend.weight, network.trend.bias) + F.linear(
        window - trend, network.remainder.weight, network.remainder.bias
    )
    torch.testing.assert_close(network(window).flatten(1), expected)
    both = network(window[:1] + window[1:2]) + network(torch.zeros_like(window[:1]))
    torch.testing.assert_close(both, network(window[:1]) + network(window[1:2]))


def test_the_loss_is_the_mean_pinball() -> None:
    random = np.random.default_rng(0)
    quantiles, actual = random.standard_normal((6, 2, len(LEVELS))), random.standard_normal((6, 2))
    ours = quantile_loss(torch.tensor(quantiles), torch.tensor(actual))
    assert ours.item() == pytest.approx(pinball_loss(quantiles, actual).mean())


def autoregressive(n: int, coefficient: float = 0.5) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(n)
    values = np.zeros(n)
    for time in range(1, n):
        values[time] = coefficient * values[time - 1] + noise[time]
    return values


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_finds_what_can_be_forecast(name: str) -> None:
    """An autoregression of 0.5: naive errors have 4/3 of the noise's variance, so the best skill is 1 − √¾ = 0.134."""
    pytest.importorskip("statsmodels")
    values = autoregressive(2400)
    _, row = compare(values, [NeuralForecaster(name, context_length=16)], first=1800, refit_every=600)
    assert row.verdict == "better"
    assert 0.06 < row.skill < 0.18
    assert 0.85 < row.coverage < 0.95


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_finds_nothing_in_a_random_walk(name: str) -> None:
    pytest.importorskip("statsmodels")
    values = np.cumsum(np.random.default_rng(1).standard_normal(1600))
    _, row = compare(values, [NeuralForecaster(name, context_length=16, epochs=3)], first=1200, refit_every=400)
    assert row.verdict != "better"
    assert abs(row.skill) < 0.05


def test_forecasts_are_the_same_every_time_and_leave_the_generator_alone() -> None:
    values = autoregressive(400)
    before = torch.random.get_rng_state()
    runs = [walk_forward(values, NeuralForecaster("GRU", context_length=8, epochs=2), first=350) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].quantiles, runs[1].quantiles)
    assert torch.equal(before, torch.random.get_rng_state())


def test_forecasts_move_with_the_series_and_its_unit() -> None:
    values = np.cumsum(autoregressive(400))
    usual = walk_forward(values, NeuralForecaster("DLinear", context_length=8, epochs=2), first=350)
    other = walk_forward(1000 * values + 7, NeuralForecaster("DLinear", context_length=8, epochs=2), first=350)
    np.testing.assert_allclose(other.quantiles, 1000 * usual.quantiles + 7, rtol=1e-3, atol=1.0)


def test_quantiles_do_not_cross_and_a_standstill_is_survived() -> None:
    values = np.concatenate([np.cumsum(autoregressive(400)), np.full(40, 3.0)])
    result = walk_forward(values, NeuralForecaster("TCN", context_length=8, epochs=2), first=380, horizon=2)
    assert np.isfinite(result.quantiles).all()
    assert (np.diff(result.quantiles, axis=2) >= 0).all()
    standing = result.quantiles[result.origins >= 410]
    assert np.abs(standing[..., MEDIAN] - 3.0).max() < 1.0
    naive = walk_forward(values, Naive(), first=380, horizon=2)
    assert naive.quantiles.shape == result.quantiles.shape
