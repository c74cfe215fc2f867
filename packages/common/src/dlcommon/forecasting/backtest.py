"""Walk-forward backtest: forecasts for one origin after the other, each from the past alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Forecaster(Protocol):
    """Anything that forecasts; the backtest shows it the past, and nothing else."""

    @property
    def name(self) -> str: ...

    def fit(self, history: np.ndarray, horizon: int) -> None:
        """Learns from all values up to the first origin that it is to forecast from."""
        ...

    def predict(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Quantiles [histories, horizon, levels]. Each history ends at its origin and goes on from what was fitted."""
        ...


@dataclass(frozen=True)
class Backtest:
    origins: np.ndarray
    """int64 [origins]: index of the last value that each forecast knew."""
    actual: np.ndarray
    """[origins, horizon]."""
    quantiles: np.ndarray
    """[origins, horizon, levels]."""


def walk_forward(
    values: np.ndarray, forecaster: Forecaster, first: int, horizon: int = 1, refit_every: int = 250
) -> Backtest:
    """Forecasts from every origin between `first` and the last that has `horizon` values after it.

    The forecaster is given copies that end at the origin, so that it cannot see beyond, and is fitted again after
    every `refit_every` origins, on all values up to there.

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
    actual = values[origins[:, None] + np.arange(1, horizon + 1)]
    return Backtest(origins, actual, np.concatenate(blocks))
