import numpy as np
from dlcommon.course.smoothing import moving_average


def test_the_mean_of_a_straight_line_lies_on_the_line() -> None:
    for window in (1, 4, 5):
        positions, means = moving_average(3 * np.arange(20.0) + 2, window)
        assert len(means) == 21 - window
        np.testing.assert_allclose(means, 3 * positions + 2)


def test_a_single_spike_spreads_evenly_around_its_place() -> None:
    positions, means = moving_average([0.0] * 10 + [1.0] + [0.0] * 9, 5)
    np.testing.assert_allclose(positions[means > 0], [8, 9, 10, 11, 12])
    np.testing.assert_allclose(means.max(), 0.2)
