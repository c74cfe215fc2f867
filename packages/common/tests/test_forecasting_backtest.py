"""Windows, walk-forward backtests and baselines, against their definitions and statsmodels."""

from collections.abc import Sequence

import numpy as np
import pytest
from dlcommon.forecasting.backtest import walk_forward
from dlcommon.forecasting.baselines import ETS, Drift, Naive, SeasonalNaive
from dlcommon.forecasting.compare import compare
from dlcommon.forecasting.scores import LEVELS, MEDIAN, absolute_error, coverage
from dlcommon.forecasting.windows import sliding_windows, split_by_time


def walk(n: int, seed: int = 0) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).standard_normal(n))


def test_windows_are_consecutive_and_targets_follow_them() -> None:
    inputs, targets = sliding_windows(np.arange(10.0), context_length=4, horizon=2)
    assert inputs.shape == (5, 4)
    assert targets.shape == (5, 2)
    for row in range(5):
        assert inputs[row].tolist() == [row, row + 1, row + 2, row + 3]
        assert targets[row].tolist() == [row + 4, row + 5]
    with pytest.raises(ValueError, match="5 values are too few"):
        sliding_windows(np.arange(5.0), 4, 2)


@pytest.mark.parametrize("horizon", [1, 3, 7])
def test_no_target_that_is_trained_on_is_validated_on(horizon: int) -> None:
    index = np.arange(100.0)
    _, targets = sliding_windows(index, 10, horizon)
    training, validation = split_by_time(len(targets), 0.2, horizon)
    assert targets[training].max() < targets[validation].min()
    assert targets[training].max() == targets[validation].min() - 1, "no more is left out than must be"
    with pytest.raises(ValueError, match="cannot be split"):
        split_by_time(3, 0.5, 4)


class Recorder:
    """A forecaster that keeps what it is shown."""

    name = "recorder"

    def __init__(self) -> None:
        self.fitted: list[int] = []
        self.shown: list[np.ndarray] = []

    def fit(self, history: np.ndarray, horizon: int) -> None:
        self.fitted.append(len(history))
        self.horizon = horizon
        history[:] = np.nan  # what it does to its copy is its own affair

    def predict(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        self.shown += histories
        last = np.array([history[-1] for history in histories])
        return np.broadcast_to(last[:, None, None], (len(histories), self.horizon, len(LEVELS)))


def test_a_forecaster_sees_the_past_and_nothing_else() -> None:
    values, recorder = walk(60), Recorder()
    result = walk_forward(values.copy(), recorder, first=20, horizon=3, refit_every=15)
    assert result.origins.tolist() == list(range(20, 57))
    assert recorder.fitted == [21, 36, 51]  # lengths up to and including the origins 20, 35 and 50
    for origin, history in zip(result.origins, recorder.shown, strict=True):
        np.testing.assert_array_equal(history, values[: origin + 1])
        assert history.base is None, "a view would hold the future"
    for row, origin in enumerate(result.origins):
        np.testing.assert_array_equal(result.actual[row], values[origin + 1 : origin + 4])
        assert (result.quantiles[row] == values[origin]).all()


def test_impossible_backtests_are_refused() -> None:
    with pytest.raises(ValueError, match="no origin from 9 on"):
        walk_forward(np.arange(10.0), Naive(), first=9)
    with pytest.raises(ValueError, match="value 3 of the series is not a finite number"):
        walk_forward(np.array([1, 2, 3, np.nan, 5]), Naive(), first=1)


def test_points_are_those_of_the_rules() -> None:
    history = np.array([3.0, 5, 4, 8, 6, 7, 9, 5, 11])
    for rule, expected in [
        (Naive(), [11, 11, 11, 11]),
        (Drift(), [12, 13, 14, 15]),
        (SeasonalNaive(3), [9, 5, 11, 9]),
    ]:
        rule.fit(history, 4)
        np.testing.assert_allclose(rule.predict([history])[0, :, MEDIAN], expected)


def test_seasonal_naive_repeats_a_season_exactly() -> None:
    season = np.array([1.0, 5, 2, 8, 3])
    result = walk_forward(np.tile(season, 30), SeasonalNaive(5), first=60, horizon=7)
    np.testing.assert_array_equal(absolute_error(result.quantiles, result.actual), 0)


def test_quantiles_of_a_rule_are_those_of_its_recent_errors() -> None:
    history = np.concatenate([walk(500), 100 * walk(60)])  # rough, after calm
    naive = Naive(recent=50)
    naive.fit(history, 2)
    quantiles = naive.predict([history])[0]
    for step in (1, 2):
        errors = (history[step:] - history[:-step])[-50:]
        expected = history[-1] + np.quantile(errors, LEVELS) - np.median(errors)
        np.testing.assert_allclose(quantiles[step - 1], expected, rtol=1e-9)
        assert quantiles[step - 1, MEDIAN] == history[-1]


def test_coverage_on_a_random_walk_is_what_was_promised() -> None:
    result = walk_forward(walk(3000), Naive(recent=1000), first=1500)
    assert coverage(result.quantiles, result.actual) == pytest.approx(0.9, abs=0.025)


def test_ets_equals_statsmodels_at_its_own_origin_and_later_ones() -> None:
    ets_module = pytest.importorskip("statsmodels.tsa.exponential_smoothing.ets")
    pandas = pytest.importorskip("pandas")
    random = np.random.default_rng(2)
    level = np.cumsum(0.3 * random.standard_normal(260))
    values = level + random.standard_normal(260)
    ets = ETS(recent=200)  # all errors, as statsmodels
    ets.fit(values[:200], horizon=6)
    ours = ets.predict([values[:200], values[:203], values])
    series = pandas.Series(values[:200])  # its table of intervals needs an index
    model = ets_module.ETSModel(series, error="add", trend="add", damped_trend=True)
    fitted = model.fit(disp=False)
    predicted = fitted.get_prediction(start=200, end=205)
    np.testing.assert_allclose(ours[0, :, MEDIAN], predicted.predicted_mean, rtol=1e-7)
    interval = predicted.summary_frame(alpha=0.1)
    np.testing.assert_allclose(ours[0, :, 0], interval["pi_lower"], rtol=1e-3)
    np.testing.assert_allclose(ours[0, :, -1], interval["pi_upper"], rtol=1e-3)
    for row, length in ((1, 203), (2, 260)):
        later = ets_module.ETSModel(values[:length], error="add", trend="add", damped_trend=True)
        smoothed = later.smooth(fitted.params)
        np.testing.assert_allclose(ours[row, :, MEDIAN], smoothed.forecast(6), rtol=1e-7)


def test_ets_refuses_a_history_that_it_was_not_fitted_on() -> None:
    ets = ETS()
    ets.fit(walk(100), horizon=1)
    with pytest.raises(ValueError, match="must continue the values that were fitted"):
        ets.predict([walk(100, seed=1)])


class Oracle(Recorder):
    """Knows a share of what comes."""

    name = "oracle"

    def __init__(self, values: np.ndarray, share: float) -> None:
        super().__init__()
        self.values, self.share = values, share

    def predict(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        known = super().predict(histories).copy()
        for row, history in enumerate(histories):
            known[row, 0] += self.share * (self.values[len(history)] - history[-1])
        return known


def test_comparison_tells_better_from_worse_from_no_difference() -> None:
    values = walk(400)
    rows = compare(values, [Oracle(values, 0.5), Oracle(values, -0.5), Oracle(values, 0.0)], first=200)
    assert [row.verdict for row in rows] == ["the reference", "better", "worse", "no difference shown"]
    assert [row.skill for row in rows] == pytest.approx([0, 0.5, -0.5, 0])
    assert rows[0].name == "naive"
    assert rows[1].p_value < 1e-6
