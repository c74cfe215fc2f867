"""Scores against their definitions, and the Diebold-Mariano test against statsmodels and published figures."""

import numpy as np
import pytest
from dlcommon.forecasting.diebold_mariano import diebold_mariano
from dlcommon.forecasting.scores import LEVELS, MEDIAN, absolute_error, coverage, crps, pinball_loss, skill_score
from scipy import integrate, stats


def gaussian(mean: float, deviation: float, origins: int = 1) -> np.ndarray:
    return np.broadcast_to(stats.norm.ppf(LEVELS, mean, deviation), (origins, 1, len(LEVELS)))


def test_levels_are_those_that_the_coverage_and_the_median_need() -> None:
    assert LEVELS[MEDIAN] == pytest.approx(0.5)
    assert (LEVELS[0], LEVELS[-1]) == pytest.approx((0.05, 0.95))


def test_pinball_is_its_definition() -> None:
    quantiles = np.linspace(-1, 1, len(LEVELS))[None, None]
    for value in (-2.0, 0.3, 2.0):
        expected = [
            level * (value - quantile) if value >= quantile else (1 - level) * (quantile - value)
            for level, quantile in zip(LEVELS, quantiles[0, 0], strict=True)
        ]
        np.testing.assert_allclose(pinball_loss(quantiles, np.array([[value]]))[0, 0], expected)


def test_the_quantile_of_a_distribution_has_the_lowest_pinball_loss() -> None:
    sample = np.random.default_rng(0).gamma(2.0, size=(20_000, 1))
    best = np.quantile(sample, LEVELS)[None, None]
    losses = [pinball_loss(best + shift, sample).mean(axis=(0, 1)) for shift in (-0.2, 0.0, 0.2)]
    assert (losses[1] < losses[0]).all()
    assert (losses[1] < losses[2]).all()


@pytest.mark.parametrize("value", [-1.5, 0.0, 0.4, 2.5])
def test_crps_is_near_the_gaussian_closed_form_and_the_integral(value: float) -> None:
    """Levels end at 5 % and 95 %, so the score is the integral up to what the tails add: within 10 % here."""
    mean, deviation = 0.2, 1.3
    z = (value - mean) / deviation
    closed = deviation * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
    integral, _ = integrate.quad(
        lambda x: (stats.norm.cdf(x, mean, deviation) - (x >= value)) ** 2, -12, 12, points=[value], limit=200
    )
    assert integral == pytest.approx(closed, abs=1e-6)
    assert crps(gaussian(mean, deviation), np.array([[value]]))[0, 0] == pytest.approx(closed, rel=0.1)


def test_crps_of_a_certain_forecast_is_the_absolute_error() -> None:
    certain = np.full((1, 1, len(LEVELS)), 3.0)
    actual = np.array([[5.5]])
    assert crps(certain, actual).item() == pytest.approx(absolute_error(certain, actual).item()) == pytest.approx(2.5)


def test_crps_prefers_the_true_spread_and_coverage_measures_it() -> None:
    sample = np.random.default_rng(1).standard_normal((4000, 1))
    scores = {deviation: crps(gaussian(0, deviation, 4000), sample).mean() for deviation in (0.5, 1.0, 2.0)}
    assert min(scores, key=lambda deviation: scores[deviation]) == 1.0
    assert coverage(gaussian(0, 1, 4000), sample) == pytest.approx(0.9, abs=0.015)
    assert coverage(gaussian(0, 0.5, 4000), sample) < 0.65


def test_skill_is_zero_for_the_reference_and_one_for_perfection() -> None:
    losses = np.array([1.0, 3.0])
    assert skill_score(losses, losses) == 0
    assert skill_score(np.zeros(2), losses) == 1
    assert skill_score(2 * losses, losses) == -1


def losses(n: int = 120, seed: int = 0, correlated: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    noise = random.standard_normal((2, n))
    noise[:, 1:] += correlated * noise[:, :-1]
    return np.abs(noise[0]) + 0.1, np.abs(noise[1])


def test_equals_statsmodels_for_one_step() -> None:
    tsa = pytest.importorskip("statsmodels.tsa.stattools")
    random = np.random.default_rng(3)
    actual = random.standard_normal(80)
    one, two = actual + random.standard_normal(80), actual + 1.2 * random.standard_normal(80)
    ours = diebold_mariano((actual - one) ** 2, (actual - two) ** 2)
    theirs = tsa.diebold_mariano_test(actual, one, two, lags=0, harvey_adj=True, horizon=1)
    assert ours.statistic == pytest.approx(theirs.statistic, rel=1e-9)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9)


@pytest.mark.parametrize("horizon", [1, 2, 5])
def test_equals_a_regression_on_a_constant_with_the_same_covariance(horizon: int) -> None:
    """The t statistic of the mean with unweighted autocovariances, times Harvey's factor."""
    api = pytest.importorskip("statsmodels.api")
    first, second = losses(correlated=0.7)
    n = len(first)
    options = {"maxlags": horizon - 1, "kernel": "uniform", "use_correction": False}
    fitted = api.OLS(first - second, np.ones(n)).fit(cov_type="HAC", cov_kwds=options)
    factor = np.sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n)
    ours = diebold_mariano(first, second, horizon)
    assert ours.statistic == pytest.approx(factor * fitted.tvalues[0], rel=1e-9)
    assert ours.p_value == pytest.approx(2 * stats.t.sf(abs(ours.statistic), n - 1), rel=1e-9)


def test_equals_the_example_that_the_package_dieboldmariano_publishes() -> None:
    actual = np.array([10, 20, 30, 40, 50.0])
    first, second = np.array([11, 21, 29, 42, 53.0]), np.array([13, 26, 24, 40, 59.0])
    tested = diebold_mariano((actual - first) ** 2, (actual - second) ** 2)
    assert tested.statistic == pytest.approx(-2.2229922805746782)
    assert tested.p_value / 2 == pytest.approx(0.04515565862099125)  # they publish one side


def test_swapping_the_forecasts_changes_the_sign_only() -> None:
    first, second = losses()
    one, other = diebold_mariano(first, second, 3), diebold_mariano(second, first, 3)
    assert one.statistic == -other.statistic
    assert one.p_value == other.p_value


def test_equal_forecasts_are_no_different_and_a_constant_difference_is_certain() -> None:
    first, _ = losses()
    assert diebold_mariano(first, first) == (0.0, 1.0)
    same = np.full(50, 2.0)
    assert diebold_mariano(same, same - 0.5).p_value == 0


def test_a_negative_variance_is_replaced() -> None:
    alternating = np.tile([1.0, -1.0], 30) + 0.01  # its first autocovariance is −γ₀, so that γ₀ + 2 γ₁ < 0
    tested = diebold_mariano(np.maximum(alternating, 0), np.maximum(-alternating, 0), horizon=2)
    assert np.isfinite(tested.statistic)
    assert 0 < tested.p_value <= 1


@pytest.mark.parametrize("horizon", [1, 4])
def test_rejects_about_one_true_hypothesis_in_twenty(horizon: int) -> None:
    random = np.random.default_rng(5)
    weights = np.ones(horizon) / np.sqrt(horizon)
    p_values = []
    for _ in range(800):
        noise = np.convolve(random.standard_normal(200 + horizon - 1), weights, mode="valid")
        p_values.append(diebold_mariano(noise, np.zeros(200), horizon).p_value)
    assert 0.03 < np.mean(np.array(p_values) < 0.05) < 0.09


def test_losses_that_do_not_fit_are_refused() -> None:
    first, second = losses()
    with pytest.raises(ValueError, match="belong together"):
        diebold_mariano(first, second[1:])
    with pytest.raises(ValueError, match="120 origins are too few for a horizon of 60"):
        diebold_mariano(first, second, 60)
