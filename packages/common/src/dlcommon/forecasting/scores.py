"""Scores of quantile forecasts. Quantiles are [origins, horizon, levels], actual values [origins, horizon]."""

import numpy as np

LEVELS = np.linspace(0.05, 0.95, 19)
"""Probabilities of the quantiles that forecasts consist of."""
MEDIAN = 9
"""Index of 0.5 in `LEVELS`: the point forecast, which minimizes the absolute error."""


def pinball_loss(quantiles: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Computes the quantile loss, [origins, horizon, levels] (Koenker & Bassett 1978).

    It is level · shortfall, or (1 − level) · excess.
    """
    shortfall = actual[..., None] - quantiles  # [origins, horizon, levels], positive below the value
    result: np.ndarray = np.maximum(LEVELS * shortfall, (LEVELS - 1) * shortfall)
    return result


def crps(quantiles: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Computes the continuous ranked probability score [origins, horizon], in the units of the series; lower is better.

    It is twice the integral of the quantile loss over all levels (Gneiting & Ranjan 2011, equation 8), here the mean
    over `LEVELS`. For a deterministic forecast it is the absolute error.
    """
    result: np.ndarray = 2 * pinball_loss(quantiles, actual).mean(axis=-1)
    return result


def absolute_error(quantiles: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Computes the absolute error of the median, [origins, horizon]."""
    result: np.ndarray = np.abs(actual - quantiles[..., MEDIAN])
    return result


def coverage(quantiles: np.ndarray, actual: np.ndarray) -> float:
    """Computes the fraction of values between the 5 % and 95 % quantiles; 0.9 if the forecast is calibrated."""
    return float(((quantiles[..., 0] <= actual) & (actual <= quantiles[..., -1])).mean())


def skill_score(losses: np.ndarray, reference: np.ndarray) -> float:
    """Computes 1 − mean loss / mean loss of the reference: 0 is no better, 1 is perfect, below 0 is worse."""
    if reference.mean() == 0:  # nothing is better than perfect
        return 0.0 if losses.mean() == 0 else -np.inf
    return float(1 - losses.mean() / reference.mean())
