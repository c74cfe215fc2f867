"""The Diebold-Mariano test of equal accuracy (Diebold & Mariano 1995; Harvey, Leybourne & Newbold 1997)."""

from typing import NamedTuple

import numpy as np


class DieboldMariano(NamedTuple):
    """Holds the result of the test."""

    statistic: float
    """Positive if the first forecast's losses are larger."""
    p_value: float
    """Two-sided: how often equally accurate forecasts differ at least this much."""


def diebold_mariano(losses: np.ndarray, others: np.ndarray, horizon: int = 1) -> DieboldMariano:
    """Tests that two forecasts of the same values have the same expected loss.

    The mean difference d̄ over n origins is divided by its standard deviation, whose square is
    (γ₀ + 2 γ₁ + … + 2 γ_{h−1}) / n: forecasts h steps ahead have errors that overlap, so their first h − 1
    autocovariances γ count. The result is multiplied by √((n + 1 − 2h + h(h − 1)/n) / n) and compared with Student's
    t of n − 1 degrees of freedom (Harvey et al., equations 8 and 9). Where that variance is not positive, as can
    happen for h > 1, the autocovariances are weighted by Bartlett's 1 − k/h, which cannot be negative.

    The test compares forecasts, not models: it does not say what a network could do with more data.

    Args:
        losses: of the first forecast, such as its absolute errors, [origins].
        others: of the second forecast, for the same origins, [origins].
        horizon: steps between origin and forecast value.

    Raises:
        ValueError: the shapes differ, or there are too few origins for this horizon.
    """
    from scipy.stats import t as student

    if losses.shape != others.shape or losses.ndim != 1:
        raise ValueError(f"losses of the same origins belong together, got {losses.shape} and {others.shape}")
    n = len(losses)
    if horizon < 1 or n <= 2 * horizon:
        raise ValueError(f"{n} origins are too few for a horizon of {horizon}")
    difference = losses - others
    mean = difference.mean()
    if np.abs(difference).max() <= 1e-12 * np.abs(losses).max():  # equal up to rounding
        return DieboldMariano(0.0, 1.0)
    centered = difference - mean
    autocovariances = np.array([centered[lag:] @ centered[: n - lag] for lag in range(horizon)]) / n
    # Of the mean difference: γ₀ and twice each of the others, over n.
    variance = (2 * autocovariances.sum() - autocovariances[0]) / n
    if variance <= 0:
        bartlett = autocovariances * (1 - np.arange(horizon) / horizon)
        variance = (2 * bartlett.sum() - bartlett[0]) / n
    correction = np.sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n)
    with np.errstate(divide="ignore"):  # a constant difference has an infinite statistic
        statistic = float(correction * mean / np.sqrt(variance))
    return DieboldMariano(statistic, float(2 * student.sf(abs(statistic), n - 1)))
