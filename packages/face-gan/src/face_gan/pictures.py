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


def block_means(pictures: np.ndarray, side: int) -> np.ndarray:
    """Makes pictures small: averages uint8 [samples, height, width, 3] to float32 [samples, side · side · 3]."""
    samples, height, width, channels = pictures.shape
    blocks = pictures.reshape(samples, side, height // side, side, width // side, channels)
    means: np.ndarray = blocks.mean(axis=(2, 4), dtype=np.float32)
    return means.reshape(samples, -1)
