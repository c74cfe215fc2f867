"""Decodes one JPEG or PNG image, and names the file and row of a damaged one."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from dlcommon.runtime.data.dataset import DamagedDataError

MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG"}


def encoding_of(content: bytes) -> str | None:
    """Returns JPEG, PNG, or None for anything else."""
    return next((name for magic, name in MAGIC.items() if content.startswith(magic)), None)


def decode_image_file(
    content: bytes | None, path: Path, row: int | None = None, size: tuple[int, int] | None = None
) -> tuple["np.ndarray", str]:
    """Decodes an image to RGB.

    Args:
        path: file that errors name.
        row: row of the file that errors name, where it holds many images.
        size: height and width that the image must have, if they must be fixed ones.

    Returns:
        uint8 [height, width, 3], and the encoding.

    Raises:
        DamagedDataError: it is no image, a damaged one, or one of another size.
    """
    # A header that claims a gigantic size; the second only where warnings are errors.
    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    if not content:
        raise DamagedDataError(path, "the image is missing", row)
    encoding = encoding_of(content)
    if encoding is None:
        raise DamagedDataError(path, "the image is neither JPEG nor PNG", row)
    try:
        with Image.open(io.BytesIO(content), formats=(encoding,)) as image:
            if size is not None and image.size != size[::-1]:
                expected = f"{size[1]}×{size[0]}"
                raise DamagedDataError(path, f"the image has {image.width}×{image.height} pixels, not {expected}", row)
            return np.array(image if image.mode == "RGB" else image.convert("RGB")), encoding
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, *bombs) as error:
        raise DamagedDataError(path, f"the image cannot be decoded ({error})", row) from error
