"""Pictures of any size, made what the network takes."""

from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 32
"""Pixels of the network's input."""

EXAMPLES = sorted((Path(__file__).parent / "examples").glob("*.png"))
"""Drawings of our own, free to share."""


def middle_square(picture: np.ndarray) -> np.ndarray:
    """The largest square in the middle of [height, width, 3]."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[top : top + side, left : left + side]


def network_input(picture: np.ndarray) -> np.ndarray:
    """The middle square of uint8 [height, width, 3] as the network sees it: uint8 [32, 32, 3]."""
    square = Image.fromarray(middle_square(picture))
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BOX))
