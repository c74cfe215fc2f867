"""Baselines without a network, which every network has to beat (Hyndman & Athanasopoulos, Forecasting, chapter 5)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dlcommon.forecasting.scores import LEVELS, MEDIAN


class Baseline:
    """Forecasts by a rule; quantiles are those of the rule's recent errors, around the point forecast.

    Args:
        recent: number of latest errors that count, so that the spread follows the current volatility.
    """

    name: str
    """Name shown in tables and figures."""

    def __init__(self, recent: int = 250) -> None:
        self.recent = recent
        self.horizon = 1

    def point(self, history: np.ndarray, step: int) -> float:
        """Forecasts the value `step` steps after the end of the history."""
        raise NotImplementedError

    def errors(self, history: np.ndarray, step: int) -> np.ndarray:
        """Computes the rule's past errors within the history, in order of time."""
        raise NotImplementedError

    def fit(self, history: np.ndarray, horizon: int) -> None:
        """Stores the horizon; a rule has nothing to fit."""
        self.horizon = horizon

    def predict(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Computes quantiles [histories, horizon, levels]."""
        forecasts = np.empty((len(histories), self.horizon, len(LEVELS)))
        for row, history in enumerate(histories):
            for step in range(1, self.horizon + 1):
                # Errors are centered on their median, so that the rule itself is the median forecast.
                spread = np.quantile(self.errors(history, step)[-self.recent :], LEVELS)
                forecasts[row, step - 1] = self.point(history, step) + (spread - spread[MEDIAN])
        return forecasts


class Naive(Baseline):
    """Repeats the last value, the optimal forecast of a random walk."""

    name = "naive"

    def point(self, history: np.ndarray, step: int) -> float:
        return float(history[-1])

    def errors(self, history: np.ndarray, step: int) -> np.ndarray:
        result: np.ndarray = history[step:] - history[:-step]
        return result


class Drift(Baseline):
    """Continues the line through the first and the last value."""

    name = "drift"

    @staticmethod
    def slope(history: np.ndarray) -> float:
        """Computes the mean change per step."""
        return float((history[-1] - history[0]) / (len(history) - 1))

    def point(self, history: np.ndarray, step: int) -> float:
        return float(history[-1]) + step * self.slope(history)

    def errors(self, history: np.ndarray, step: int) -> np.ndarray:
        result: np.ndarray = history[step:] - history[:-step] - step * self.slope(history)
        return result


class SeasonalNaive(Baseline):
    """Repeats the value one season before.

    Args:
        season: values per season, such as 5 trading days a week.
        recent: as of `Baseline`.
    """

    name = "seasonal naive"

    def __init__(self, season: int, recent: int = 250) -> None:
        super().__init__(recent)
        self.season = season

    def _lag(self, step: int) -> int:
        """Returns the fewest whole seasons, in steps, that lead back to a known value."""
        return self.season * -(-step // self.season)

    def point(self, history: np.ndarray, step: int) -> float:
        return float(history[step - 1 - self._lag(step)])

    def errors(self, history: np.ndarray, step: int) -> np.ndarray:
        lag = self._lag(step)
        result: np.ndarray = history[lag:] - history[:-lag]
        return result


class ETS:
    """Forecasts by exponential smoothing with additive errors and a damped trend, ETS(A,Ad,N).

    Parameters are estimated by statsmodels. Between fits the states are updated with each new value; forecasts are
    Gaussian (Hyndman et al. 2008, table 6.1).

    Args:
        recent: number of latest errors that the spread is estimated from.
    """

    name = "ETS"

    def __init__(self, recent: int = 250) -> None:
        self.recent = recent

    def fit(self, history: np.ndarray, horizon: int) -> None:
        """Estimates parameters and states on the history."""
        from statsmodels.tsa.exponential_smoothing.ets import ETSModel

        fitted: Any = ETSModel(history, error="add", trend="add", damped_trend=True).fit(disp=False)
        estimated = dict(zip(fitted.model.param_names, fitted.params, strict=True))
        self.alpha, self.beta = estimated["smoothing_level"], estimated["smoothing_trend"]
        self.phi, self.sigma = estimated["damping_trend"], float(np.sqrt(np.mean(fitted.resid[-self.recent :] ** 2)))
        self.level, self.trend = float(fitted.level[-1]), float(fitted.slope[-1])
        self.horizon, self.fitted_on = horizon, history

    def predict(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Computes quantiles [histories, horizon, levels].

        Raises:
            ValueError: a history does not continue the fitted one.
        """
        from scipy.stats import norm

        damping = np.cumsum(self.phi ** np.arange(1, self.horizon + 1))  # φ + φ² + … + φ^step
        impact = self.alpha + self.beta * damping[:-1] / self.phi  # of an error on the forecasts 1, 2, … steps later
        # A forecast's variance adds up the errors of all steps until then, each with its impact.
        std = self.sigma * np.sqrt(1 + np.concatenate([[0.0], np.cumsum(impact**2)]))
        points = np.empty((len(histories), self.horizon))
        for row, history in enumerate(histories):
            level, trend = self._states_after(history)
            points[row] = level + damping * trend
        result: np.ndarray = points[..., None] + std[:, None] * norm.ppf(LEVELS)
        return result

    def _states_after(self, history: np.ndarray) -> tuple[float, float]:
        """Updates level and trend by the values after the fitted ones."""
        known = len(self.fitted_on)
        if len(history) < known or history[known - 1] != self.fitted_on[-1]:
            raise ValueError("a history must continue the values that were fitted")
        level, trend = self.level, self.trend
        for value in history[known:]:
            error = value - (level + self.phi * trend)
            level, trend = level + self.phi * trend + self.alpha * error, self.phi * trend + self.beta * error
        return level, trend
