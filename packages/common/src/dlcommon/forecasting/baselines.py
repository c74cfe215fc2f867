"""Forecasts that need no network: what every network has to beat (Hyndman & Athanasopoulos, Forecasting, chapter 5)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dlcommon.forecasting.scores import LEVELS, MEDIAN


class Rule:
    """A forecast by a rule; its quantiles are those of the errors that the same rule made of late, around its point.

    Args:
        recent: how many of the latest errors count, so that the spread follows calm and rough times.
    """

    name: str

    def __init__(self, recent: int = 250) -> None:
        self.recent = recent
        self.horizon = 1

    def point(self, history: np.ndarray, step: int) -> float:
        """The forecast for `step` values after the end."""
        raise NotImplementedError

    def errors(self, history: np.ndarray, step: int) -> np.ndarray:
        """What the rule would have missed by within the history, in time's order."""
        raise NotImplementedError

    def fit(self, history: np.ndarray, horizon: int) -> None:
        self.horizon = horizon

    def predict(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        forecasts = np.empty((len(histories), self.horizon, len(LEVELS)))
        for row, history in enumerate(histories):
            for step in range(1, self.horizon + 1):
                spread = np.quantile(self.errors(history, step)[-self.recent :], LEVELS)
                forecasts[row, step - 1] = self.point(history, step) + (spread - spread[MEDIAN])
        return forecasts


class Naive(Rule):
    """Tomorrow is as today: the best that there is for a random walk."""

    name = "naive"

    def point(self, history: np.ndarray, step: int) -> float:
        return history[-1]

    def errors(self, history: np.ndarray, step: int) -> np.ndarray:
        return history[step:] - history[:-step]


class Drift(Rule):
    """The line through the first and the last value goes on."""

    name = "drift"

    @staticmethod
    def slope(history: np.ndarray) -> float:
        return (history[-1] - history[0]) / (len(history) - 1)

    def point(self, history: np.ndarray, step: int) -> float:
        return history[-1] + step * self.slope(history)

    def errors(self, history: np.ndarray, step: int) -> np.ndarray:
        return history[step:] - history[:-step] - step * self.slope(history)


class SeasonalNaive(Rule):
    """As at the same point of the season before.

    Args:
        season: values in a season, such as 5 trading days a week.
    """

    name = "seasonal naive"

    def __init__(self, season: int, recent: int = 250) -> None:
        super().__init__(recent)
        self.season = season

    def _lag(self, step: int) -> int:
        """Whole seasons back to a value that is known."""
        return self.season * -(-step // self.season)

    def point(self, history: np.ndarray, step: int) -> float:
        return history[step - 1 - self._lag(step)]

    def errors(self, history: np.ndarray, step: int) -> np.ndarray:
        lag = self._lag(step)
        return history[lag:] - history[:-lag]


class ETS:
    """Exponential smoothing with additive errors and a damped trend, ETS(A,Ad,N), estimated by statsmodels.

    Between fits the states are updated with each new value; forecasts are Gaussian (Hyndman et al. 2008, table 6.1).

    Args:
        recent: how many of the latest errors the spread is measured by.
    """

    name = "ETS"

    def __init__(self, recent: int = 250) -> None:
        self.recent = recent

    def fit(self, history: np.ndarray, horizon: int) -> None:
        from statsmodels.tsa.exponential_smoothing.ets import ETSModel

        fitted: Any = ETSModel(history, error="add", trend="add", damped_trend=True).fit(disp=False)
        estimated = dict(zip(fitted.model.param_names, fitted.params, strict=True))
        self.alpha, self.beta = estimated["smoothing_level"], estimated["smoothing_trend"]
        self.phi, self.sigma = estimated["damping_trend"], float(np.sqrt(np.mean(fitted.resid[-self.recent :] ** 2)))
        self.level, self.trend = float(fitted.level[-1]), float(fitted.slope[-1])
        self.horizon, self.fitted_on = horizon, history

    def predict(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        from scipy.stats import norm

        damping = np.cumsum(self.phi ** np.arange(1, self.horizon + 1))  # φ + φ² + … + φ^step
        impact = self.alpha + self.beta * damping[:-1] / self.phi  # of an error on the forecasts 1, 2, … steps later
        deviation = self.sigma * np.sqrt(1 + np.concatenate([[0.0], np.cumsum(impact**2)]))
        points = np.empty((len(histories), self.horizon))
        for row, history in enumerate(histories):
            level, trend = self._states_after(history)
            points[row] = level + damping * trend
        return points[..., None] + deviation[:, None] * norm.ppf(LEVELS)

    def _states_after(self, history: np.ndarray) -> tuple[float, float]:
        known = len(self.fitted_on)
        if len(history) < known or history[known - 1] != self.fitted_on[-1]:
            raise ValueError("a history must go on from the values that were fitted")
        level, trend = self.level, self.trend
        for value in history[known:]:
            error = value - (level + self.phi * trend)
            level, trend = level + self.phi * trend + self.alpha * error, self.phi * trend + self.beta * error
        return level, trend
