"""Pictures that a run keeps as it goes on: grids of samples, curves, attention maps."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from PIL import Image

from dlcommon.runtime.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Picture: TypeAlias = "Figure | Image.Image | np.ndarray"
"""A matplotlib figure, a Pillow image, or uint8 [height, width] or [height, width, 3]."""


def as_image(picture: Picture) -> Image.Image:
    """Converts a figure, an image or an array to a Pillow image.

    Raises:
        TypeError: the picture is none of these.
    """
    if isinstance(picture, Image.Image):
        return picture
    if isinstance(picture, np.ndarray):
        return Image.fromarray(picture)
    if hasattr(picture, "savefig"):
        file = io.BytesIO()
        picture.savefig(file, format="png", dpi=110, bbox_inches="tight")
        return Image.open(file)
    raise TypeError(f"a picture is a figure, an image or an array, not a {type(picture).__name__}")


def write_picture(path: Path, picture: Picture) -> Image.Image:
    """Writes the picture to a PNG file atomically, and returns it as a Pillow image."""
    image = as_image(picture)
    file = io.BytesIO()
    image.save(file, "PNG")
    write_bytes(path, file.getvalue())
    return image
