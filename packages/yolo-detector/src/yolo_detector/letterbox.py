"""Fits pictures of any size into what the network sees: scaled, and padded with gray to multiples of 32."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from yolo_detector.config import STRIDE

GRAY = 114
"""Level of the padding, as ultralytics pads."""


@dataclass(frozen=True)
class Letterbox:
    """Holds how a picture was fitted: pixels of the picture times `scale`, plus `left` and `top`."""

    scale: float
    left: int
    top: int
    width: int
    """Width of the picture itself in pixels."""
    height: int

    def restore(self, boxes: np.ndarray) -> np.ndarray:
        """Turns boxes [n, 4] of the fitted picture into those of the picture, cut off at its border."""
        offset = np.array([self.left, self.top] * 2, np.float32)
        limits = np.array([self.width, self.height] * 2, np.float32)
        restored: np.ndarray = np.clip((boxes - offset) / np.float32(self.scale), 0, limits)
        return restored

    def fit(self, boxes: np.ndarray) -> np.ndarray:
        """Turns boxes [n, 4] of the picture into those of the fitted one."""
        return boxes * np.float32(self.scale) + np.array([self.left, self.top] * 2, np.float32)


def scaled_size(width: int, height: int, longest: int) -> tuple[int, int]:
    """Returns width and height of a picture whose longer side is scaled to `longest` pixels, each at least 1."""
    scale = longest / max(width, height)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def padded_size(width: int, height: int, longest: int) -> tuple[int, int]:
    """Returns width and height of what the network sees of a picture: the next multiples of 32."""
    scaled = scaled_size(width, height, longest)
    return -(-scaled[0] // STRIDE) * STRIDE, -(-scaled[1] // STRIDE) * STRIDE


def resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resizes a picture uint8 [height, width, 3]; what is shrunk is averaged, so that no detail is skipped."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def letterbox(image: np.ndarray, longest: int, size: tuple[int, int] | None = None) -> tuple[np.ndarray, Letterbox]:
    """Scales a picture to its longer side and centers it on gray.

    Args:
        image: uint8 [height, width, 3].
        longest: longer side of the scaled picture, in pixels.
        size: width and height of the result; by default the next multiples of 32.

    Returns:
        uint8 [height, width, 3], and how it was fitted.
    """
    height, width = image.shape[:2]
    inner = scaled_size(width, height, longest)
    outer = size or padded_size(width, height, longest)
    left, top = (outer[0] - inner[0]) // 2, (outer[1] - inner[1]) // 2
    canvas = np.full((outer[1], outer[0], 3), GRAY, np.uint8)
    canvas[top : top + inner[1], left : left + inner[0]] = resize(image, *inner)
    return canvas, Letterbox(longest / max(width, height), left, top, width, height)
