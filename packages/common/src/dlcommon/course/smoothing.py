"""Smooths noisy curves for a figure."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def moving_average(values: "Sequence[float] | np.ndarray", window: int) -> "tuple[np.ndarray, np.ndarray[Any, Any]]":
    """Averages a curve over a sliding window and places each mean at the middle of its window.

    In any other place, the means of a straight line would not lie on the line.

    Args:
        values: the curve at steps 0, 1, … [steps].
        window: number of neighbouring values that are averaged, at most `steps`.

    Returns:
        Positions and means, both [steps − window + 1]: `axis.plot(*moving_average(losses, 10))`.
    """
    means = np.convolve(values, np.ones(window) / window, mode="valid")
    return np.arange(len(means)) + (window - 1) / 2, means
