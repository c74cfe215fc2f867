"""From any picture of a digit to the 28×28 pixels that MNIST would have made of it."""

import numpy as np
from dlcommon.runtime.errors import InvalidInputError
from PIL import Image

SIDE, INK_SIDE = 28, 20
"""Pixels of a MNIST image, and of the box that its ink is scaled to."""
LEAST_CONTRAST = 32
"""Grey levels of 255 between paper and ink below which there is no ink."""
FAINT = 0.3
"""Share of the darkest ink below which a mark is a shadow or noise."""


def ink_of(picture: np.ndarray) -> np.ndarray:
    """Measures each pixel's distance from the paper: uint8 [height, width, 3] to uint8 [height, width], 0 on paper.

    The paper is the most frequent grey along the edges, so dark ink on light paper and the reverse are alike. Ink that
    is as bright as the paper, such as red on green, is looked for in the colour channels.

    Raises:
        InvalidInputError: nothing stands out from the paper.
    """
    grey = np.asarray(Image.fromarray(picture).convert("L"))
    for levels in (grey, picture[..., 0], picture[..., 1], picture[..., 2]):
        edges = np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]])
        paper = int(np.median(edges))
        ink = np.maximum(levels, paper) - np.minimum(levels, paper)
        strongest = int(ink.max())
        if strongest >= LEAST_CONTRAST:
            return np.where(ink < FAINT * strongest, 0, ink).astype(np.uint8)
    raise InvalidInputError("the picture holds no ink: draw a digit, dark on light or light on dark")


def network_input(picture: np.ndarray) -> np.ndarray:
    """Crops to the ink, scales it to fit 20×20 pixels and puts its centre of mass into the middle.

    The steps are those of LeCun et al. 1998, "Gradient-based learning applied to document recognition",
    section III.A.

    Args:
        picture: uint8 [height, width, 3], of any size.

    Returns:
        uint8 [28, 28], white on black.

    Raises:
        InvalidInputError: there is no ink.
    """
    ink = ink_of(picture)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = INK_SIDE / max(ink.shape)
    height, width = (max(1, round(scale * length)) for length in ink.shape)
    method = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    pixels = np.asarray(Image.fromarray(ink).resize((width, height), method), dtype=np.float64)
    pixels *= 255 / pixels.max()  # thin lines fade when they are scaled down
    total = pixels.sum()
    middle_row = pixels.sum(axis=1) @ np.arange(height) / total
    middle_column = pixels.sum(axis=0) @ np.arange(width) / total
    top = int(np.clip(round(SIDE / 2 - middle_row), 0, SIDE - height))
    left = int(np.clip(round(SIDE / 2 - middle_column), 0, SIDE - width))
    field = np.zeros((SIDE, SIDE), dtype=np.uint8)
    field[top : top + height, left : left + width] = pixels.round()
    return field
