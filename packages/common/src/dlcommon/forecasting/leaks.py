"""Detection of look-ahead leaks in forecasting pipelines.

A forecast made at an origin is a function of the values up to there, so another future must not change it. The
pipeline, from scaling to training to forecast, is run again on series that agree up to some origin and differ after it.
This finds leaks of every kind (scaling by statistics of the whole series, centered smoothing, backward filling of gaps,
windows shuffled before the split, training on the test period), since it does not depend on how the pipeline works.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

Pipeline: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Maps values [time] and origins [n] to forecasts [n, …]; must be reproducible."""


class Leak(NamedTuple):
    """Describes a change of forecasts when only later values were changed."""

    origin: int
    """Forecasts made here or before changed."""
    change: float
    """Largest change, in standard deviations of the series' steps."""


def find_leaks(pipeline: Pipeline, values: np.ndarray, origins: np.ndarray, cuts: int = 3, seed: int = 0) -> list[Leak]:
    """Runs the pipeline with other futures after some of the origins; finds nothing if it does not look ahead.

    Args:
        pipeline: complete: steps applied to the values before are not tested.
        values: [time].
        origins: int [n], ascending, at least two values before the end of the series.
        cuts: number of origins after which the future is changed, the first and the last among them.
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
    rng = np.random.default_rng(seed)
    unit = np.diff(values).std() or 1.0
    leaks = []
    for index in np.unique(np.linspace(0, len(origins) - 1, cuts).round().astype(int)):
        cut = int(origins[index])
        other = values.copy()
        other[cut + 1 :] = values[cut] + np.cumsum(rng.normal(0, 3 * unit, len(values) - cut - 1))
        known = slice(0, index + 1)
        change = np.abs(pipeline(other, origins)[known] - forecasts[known]).max() / unit
        if not change <= 1e-6:  # a forecast that became NaN has changed as well
            leaks.append(Leak(cut, float(change)))
    return leaks
