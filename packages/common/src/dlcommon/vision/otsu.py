"""Masks by a rule, for pictures that nobody has outlined: Otsu's threshold (1979)."""

import numpy as np
from scipy import ndimage


def otsu_threshold(values: np.ndarray) -> int:
    """Finds the threshold that leaves the least variance within the two classes, and so the most between them.

    Args:
        values: uint8, any shape.

    Returns:
        t: the classes are values ≤ t and values > t.
    """
    counts = np.bincount(values.ravel(), minlength=256).astype(np.float64)
    below = counts.cumsum()  # number of values ≤ t, for each t
    sums = (counts * np.arange(256)).cumsum()
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2  # ∝ the variance between classes
    return int(np.nan_to_num(between, nan=0.0).argmax())


def dark_objects(image: np.ndarray) -> np.ndarray:
    """Marks what is darker than Otsu's threshold in the green channel, with holes filled: bool [height, width].

    Blood is pink and violet, so that green light is what it absorbs most. A hole is background that no path joins to
    the picture's border: the pale middle of a red cell.

    Args:
        image: uint8 [height, width, 3].
    """
    green = image[..., 1]
    filled: np.ndarray = ndimage.binary_fill_holes(green <= otsu_threshold(green))
    return filled
