"""Training examples from a series: the values known at an origin, and those that follow."""

import numpy as np


def sliding_windows(values: np.ndarray, context_length: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Extracts all windows [n, context_length] and the values after each, [n, horizon], in order of time.

    Raises:
        ValueError: the series is too short for one window.
    """
    if len(values) < context_length + horizon:
        raise ValueError(f"{len(values)} values are too few for windows of {context_length} and {horizon} after them")
    both = np.lib.stride_tricks.sliding_window_view(values, context_length + horizon)
    return both[:, :context_length], both[:, context_length:]


def split_by_time(num_windows: int, validation_fraction: float, horizon: int) -> tuple[slice, slice]:
    """Splits windows into training and validation, the last `validation_fraction` of them.

    Between the two, `horizon − 1` windows are left out, since their targets reach into the validation period.

    Raises:
        ValueError: one of the two would be empty.
    """
    validation = round(num_windows * validation_fraction)
    training = num_windows - validation - (horizon - 1)
    if min(training, validation) < 1:
        raise ValueError(
            f"{num_windows} windows cannot be split into training and {validation_fraction:.0%} validation"
        )
    return slice(0, training), slice(num_windows - validation, num_windows)
