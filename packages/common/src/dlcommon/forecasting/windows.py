"""Training examples from a series: what was known at an origin, and what came after."""

import numpy as np


def sliding_windows(values: np.ndarray, context: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Every window of `context` values [n, context] and the `horizon` values after it [n, horizon], in time's order.

    Raises:
        ValueError: the series is too short for one window.
    """
    if len(values) < context + horizon:
        raise ValueError(f"{len(values)} values are too few for windows of {context} and {horizon} after them")
    both = np.lib.stride_tricks.sliding_window_view(values, context + horizon)
    return both[:, :context], both[:, context:]


def split_by_time(windows: int, share: float, horizon: int) -> tuple[slice, slice]:
    """Which of the windows to train on and which, the last `share` of them, to validate on.

    Between the two, `horizon − 1` windows are left out: their targets reach into the time that is validated on.

    Raises:
        ValueError: nothing is left to train or to validate on.
    """
    validation = round(windows * share)
    training = windows - validation - (horizon - 1)
    if min(training, validation) < 1:
        raise ValueError(f"{windows} windows cannot be split into a part to train on and {share:.0%} to validate on")
    return slice(0, training), slice(windows - validation, windows)
