"""Pipelines that look into the future are caught, whatever way they do it; honest ones are not."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from dlcommon.forecasting.backtest import Forecaster, walk_forward
from dlcommon.forecasting.baselines import ETS, Drift, Naive, SeasonalNaive
from dlcommon.forecasting.leaks import Pipeline, find_leaks
from dlcommon.forecasting.neural import NETWORKS, NeuralForecaster
from dlcommon.forecasting.windows import sliding_windows

FIRST = 150
ORIGINS = np.arange(FIRST, 199)


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    return np.cumsum(np.random.default_rng(0).standard_normal(220))


def autoregression(windows: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Ridge regression of the target on a window and a constant: [context + 1]."""
    design = np.column_stack([windows, np.ones(len(windows))])
    return np.linalg.solve(design.T @ design + np.eye(design.shape[1]), design.T @ targets)


def forecast(series: np.ndarray, origins: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    context = len(coefficients) - 1
    windows = series[origins[:, None] + np.arange(-context + 1, 1)]
    result: np.ndarray = windows @ coefficients[:-1] + coefficients[-1]
    return result


def honest(series: np.ndarray, origins: np.ndarray) -> np.ndarray:
    windows, targets = sliding_windows(series[:FIRST], 5, 1)
    return forecast(series, origins, autoregression(windows, targets[:, 0]))


def scaled_by_the_whole(series: np.ndarray, origins: np.ndarray) -> np.ndarray:
    """Min-max scaling fitted on everything, undone at the end: the commonest leak there is."""
    low, high = series.min(), series.max()
    result: np.ndarray = low + (high - low) * honest((series - low) / (high - low), origins)
    return result


def smoothed_from_both_sides(series: np.ndarray, origins: np.ndarray) -> np.ndarray:
    padded = np.pad(series, 2, mode="edge")
    return honest(np.convolve(padded, np.ones(5) / 5, mode="valid"), origins)


def trained_on_the_test(series: np.ndarray, origins: np.ndarray) -> np.ndarray:
    windows, targets = sliding_windows(series, 5, 1)
    return forecast(series, origins, autoregression(windows, targets[:, 0]))


def shuffled_before_the_split(series: np.ndarray, origins: np.ndarray) -> np.ndarray:
    windows, targets = sliding_windows(series, 5, 1)
    chosen = np.random.default_rng(0).permutation(len(windows))[: int(0.8 * len(windows))]
    return forecast(series, origins, autoregression(windows[chosen], targets[chosen, 0]))


def off_by_one(series: np.ndarray, origins: np.ndarray) -> np.ndarray:
    result: np.ndarray = series[origins + 1]
    return result


def filled_from_behind(series: np.ndarray, origins: np.ndarray) -> np.ndarray:
    """Every seventh value is missing, and is taken from the next one."""
    filled = series.copy()
    filled[:-1:7] = series[1::7][: len(filled[:-1:7])]
    return honest(filled, origins)


LEAKING = [
    scaled_by_the_whole,
    smoothed_from_both_sides,
    trained_on_the_test,
    shuffled_before_the_split,
    off_by_one,
    filled_from_behind,
]


@pytest.mark.parametrize("pipeline", LEAKING, ids=[pipeline.__name__ for pipeline in LEAKING])
def test_a_leaking_pipeline_is_caught(pipeline: Pipeline, values: np.ndarray) -> None:
    assert find_leaks(pipeline, values, ORIGINS, cuts=len(ORIGINS))


def test_a_leak_is_found_where_it_is() -> None:
    """The value two steps ahead is looked at from origin 160 on only."""

    def late(series: np.ndarray, origins: np.ndarray) -> np.ndarray:
        result: np.ndarray = np.where(origins >= 160, series[origins + 2], series[origins])
        return result

    values = np.cumsum(np.random.default_rng(1).standard_normal(220))
    assert [leak.origin for leak in find_leaks(late, values, np.arange(155, 166), cuts=11)] == list(range(160, 166))


def test_a_forecast_that_becomes_nan_has_changed(values: np.ndarray) -> None:
    def pipeline(series: np.ndarray, origins: np.ndarray) -> np.ndarray:
        return np.full(len(origins), 1.0 if series[-1] == values[-1] else np.nan)

    assert find_leaks(pipeline, values, ORIGINS)


def test_an_honest_pipeline_is_not(values: np.ndarray) -> None:
    assert find_leaks(honest, values, ORIGINS, cuts=len(ORIGINS)) == []


def backtested(build: Callable[[], Forecaster]) -> Pipeline:
    def pipeline(series: np.ndarray, origins: np.ndarray) -> np.ndarray:
        result = walk_forward(series, build(), first=origins[0], horizon=2, refit_every=20)
        return result.quantiles[np.searchsorted(result.origins, origins)]

    return pipeline


FORECASTERS: dict[str, Callable[[], Forecaster]] = {
    "naive": Naive,
    "drift": Drift,
    "seasonal": lambda: SeasonalNaive(5),
    "ETS": ETS,
    **{name: partial(NeuralForecaster, name, context_length=16, epochs=2) for name in NETWORKS},
}


@pytest.mark.parametrize("name", FORECASTERS)
def test_no_forecaster_of_ours_leaks(name: str, values: np.ndarray) -> None:
    if name == "ETS":
        pytest.importorskip("statsmodels")
    pipeline = backtested(FORECASTERS[name])
    assert find_leaks(pipeline, values, ORIGINS[:30], cuts=2) == []


def test_a_pipeline_that_cannot_be_repeated_is_refused(values: np.ndarray) -> None:
    random = np.random.default_rng()
    with pytest.raises(ValueError, match="fix its seeds"):
        find_leaks(lambda series, origins: random.standard_normal(len(origins)), values, ORIGINS)
    with pytest.raises(ValueError, match="before the end"):
        find_leaks(honest, values, np.array([len(values) - 1]))
