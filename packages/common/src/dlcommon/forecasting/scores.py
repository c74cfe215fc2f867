"""Scores of quantile forecasts. Quantiles are [origins, horizon, levels], actual values [origins, horizon]."""

import numpy as np

LEVELS = np.linspace(0.05, 0.95, 19)
"""The probabilities that forecasts give quantiles for."""
MEDIAN = 9
"""Index of 0.5 in `LEVELS`: the point forecast, which minimises the absolute error."""


def pinball(quantiles: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Quantile loss [origins, horizon, levels]: level · shortfall or (1 − level) · excess (Koenker & Bassett 1978)."""
    shortfall = actual[..., None] - quantiles
    return np.maximum(LEVELS * shortfall, (LEVELS - 1) * shortfall)


def crps(quantiles: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """The continuous ranked probability score [origins, horizon], in the units of the series; lower is better.

    It is twice the integral of the quantile loss over all levels (Gneiting & Ranjan 2011, equation 8), here the mean
    over `LEVELS`. For a certain forecast it is the absolute error.
    """
    return 2 * pinball(quantiles, actual).mean(axis=-1)


def absolute_error(quantiles: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Of the median: [origins, horizon]."""
    return np.abs(actual - quantiles[..., MEDIAN])


def coverage(quantiles: np.ndarray, actual: np.ndarray) -> float:
    """The share of actual values between the 5 % and the 95 % quantile; 0.9 where the forecast knows what it knows."""
    return float(((quantiles[..., 0] <= actual) & (actual <= quantiles[..., -1])).mean())


def skill(losses: np.ndarray, reference: np.ndarray) -> float:
    """1 − mean loss / mean loss of the reference: 0 is no better, 1 is perfect, below 0 is worse."""
    if reference.mean() == 0:  # nothing is better than perfect
        return 0.0 if losses.mean() == 0 else -np.inf
    return float(1 - losses.mean() / reference.mean())
