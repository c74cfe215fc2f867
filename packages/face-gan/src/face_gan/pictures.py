"""Pictures as pixels, and side by side."""

import numpy as np


def as_pixels(images: np.ndarray) -> np.ndarray:
    """Turns floats in [0, 1] into uint8."""
    scaled: np.ndarray = (np.clip(images, 0, 1) * 255 + 0.5).astype(np.uint8)
    return scaled


def grid(pictures: np.ndarray, columns: int) -> np.ndarray:
    """Puts pictures uint8 [samples, height, width, 3] side by side, the last row filled up with black."""
    samples, height, width, channels = pictures.shape
    rows = -(-samples // columns)
    filled = np.zeros((rows * columns, height, width, channels), np.uint8)
    filled[:samples] = pictures
    joined = filled.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return joined.reshape(rows * height, columns * width, channels)
