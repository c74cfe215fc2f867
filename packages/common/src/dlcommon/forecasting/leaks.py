"""Does a forecasting pipeline look into the future?

A forecast made at an origin is a function of the values up to there. So another future must leave it as it is. That
is what is tried: the pipeline, from scaling to training to forecast, is run again on series that agree up to some
origin and differ after it. It finds leaks of every kind (scaling by statistics of the whole series, smoothing that is
centred, gaps filled from behind, windows shuffled before the split, training that goes on into the test), since it
knows nothing of how the pipeline works.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

Pipeline: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(values [time], origins [n]) to forecasts [n, …]. It must give the same result for the same values."""


class Leak(NamedTuple):
    origin: int
    """Forecasts made here or before …"""
    change: float
    """… changed by this much, in standard deviations of the series' steps, when only later values did."""


def find_leaks(pipeline: Pipeline, values: np.ndarray, origins: np.ndarray, cuts: int = 3, seed: int = 0) -> list[Leak]:
    """Runs the pipeline with other futures after `cuts` of the origins; nothing is found where it is honest.

    Args:
        pipeline: what is to be tried, whole: a step that was done to the values before is not.
        values: [time].
        origins: int [n], ascending, at least two values before the end of the series.
        cuts: after how many of the origins, the first and the last among them, the future is changed.
        seed: of the other futures.

    Raises:
        ValueError: there are no origins, or the pipeline is not reproducible: without a fixed seed its changes
            cannot be told from a leak.
    """
    if len(origins) == 0 or origins[-1] > len(values) - 2:
        raise ValueError("a leak shows in values after the last origin: give origins before the end of the series")
    forecasts = pipeline(values.copy(), origins)
    if not np.array_equal(forecasts, pipeline(values.copy(), origins)):
        raise ValueError("the pipeline gives different forecasts for the same values; fix its seeds first")
    random = np.random.default_rng(seed)
    unit = np.diff(values).std() or 1.0
    leaks = []
    for index in np.unique(np.linspace(0, len(origins) - 1, cuts).round().astype(int)):
        cut = int(origins[index])
        other = values.copy()
        other[cut + 1 :] = values[cut] + np.cumsum(random.normal(0, 3 * unit, len(values) - cut - 1))
        known = slice(0, index + 1)
        change = np.abs(pipeline(other, origins)[known] - forecasts[known]).max() / unit
        if not change <= 1e-6:  # a forecast that became NaN has changed as well
            leaks.append(Leak(cut, float(change)))
    return leaks
