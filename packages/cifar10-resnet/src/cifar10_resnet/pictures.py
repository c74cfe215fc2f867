"""Turns pictures of any size into the network's input."""

from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 32
"""Pixels of the network's input."""

EXAMPLES = sorted((Path(__file__).parent / "examples").glob("*.png"))
"""Drawings of our own, free to share."""


def center_crop(picture: np.ndarray) -> np.ndarray:
    """Crops the largest centered square of [height, width, 3]."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[top : top + side, left : left + side]


def network_input(picture: np.ndarray) -> np.ndarray:
    """Center-crops uint8 [height, width, 3] and resizes it to the network's input: uint8 [32, 32, 3]."""
    square = Image.fromarray(center_crop(picture))
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BOX))
