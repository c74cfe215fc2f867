"""Walk-forward backtests: forecasts from one origin after the other, each from the past alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Forecaster(Protocol):
    """Forecasts from the past, which is all that a backtest shows it."""

    @property
    def name(self) -> str:
        """Name shown in tables and figures."""
        ...

    def fit(self, history: np.ndarray, horizon: int) -> None:
        """Fits all values up to the first origin to forecast from."""
        ...

    def predict(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Computes quantiles [histories, horizon, levels]; each history continues the fitted one up to its origin."""
        ...


@dataclass(frozen=True)
class Backtest:
    """Holds the forecasts of a backtest and the values that came."""

    origins: np.ndarray
    """int64 [origins]: index of the last value that each forecast knew."""
    actual: np.ndarray
    """Values that came, [origins, horizon]."""
    quantiles: np.ndarray
    """Forecasts, [origins, horizon, levels]."""


def walk_forward(
    values: np.ndarray, forecaster: Forecaster, first: int, horizon: int = 1, refit_every: int = 250
) -> Backtest:
    """Forecasts from every origin between `first` and the last that has `horizon` values after it.

    The forecaster gets copies that end at the origin, so that it cannot look ahead, and is refitted after every
    `refit_every` origins, on all values up to there.

    Args:
        values: the series, [time].
        forecaster: fitted and queried in turn.
        first: first origin.
        horizon: steps to forecast from each origin.
        refit_every: origins between fits.

    Raises:
        ValueError: there is no such origin, or a value is not finite.
    """
    if not np.isfinite(values).all():
        raise ValueError(f"value {int(np.flatnonzero(~np.isfinite(values))[0])} of the series is not a finite number")
    origins = np.arange(first, len(values) - horizon)
    if first < 0 or not len(origins):
        raise ValueError(f"{len(values)} values leave no origin from {first} on for a horizon of {horizon}")
    blocks = []
    for start in range(0, len(origins), refit_every):
        block = origins[start : start + refit_every]
        forecaster.fit(values[: block[0] + 1].copy(), horizon)
        blocks.append(forecaster.predict([values[: origin + 1].copy() for origin in block]))
    # Row r holds the values 1 … horizon steps after origin r.
    actual = values[origins[:, None] + np.arange(1, horizon + 1)]
    return Backtest(origins, actual, np.concatenate(blocks))
