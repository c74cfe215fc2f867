"""Decodes one picture of a detection folder together with its boxes.

Boxes count from the top left of the picture as it is shown, that is, after the rotation that its EXIF block asks for;
so does Ultralytics' reader (`exif_size`). Only where an annotation states the size that the file has before the
rotation, its boxes were drawn before it, too, and are turned with the picture.
"""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from dlcommon.runtime.data.annotated_pictures import AnnotatedFile, StatedBox, shown_path
from dlcommon.runtime.data.detection import AnnotatedImage, Box, annotated_image, clip
from dlcommon.runtime.errors import InvalidInputError
from dlcommon.runtime.serving.images import ImageLimits, decode_image

SMALLEST = 10
"""Sides of a picture that is not too small, in pixels; Ultralytics' reader has the same bound."""


@dataclass(frozen=True)
class DecodedFile:
    """Holds one picture after decoding, with what became of its boxes."""

    problem: str = ""
    """Why the picture is skipped, if it is."""
    sample: AnnotatedImage | None = None
    digest: bytes = b""
    """Of the file's content."""
    outside: tuple[StatedBox, ...] = ()
    without_area: tuple[StatedBox, ...] = ()
    clipped: tuple[StatedBox, ...] = ()
    """Boxes of more than a pixel beyond the border."""
    turned: bool = False
    """Whether boxes were turned with the picture."""


def decode_annotated(file: AnnotatedFile, root: Path, longest_side: int | None) -> DecodedFile:
    """Decodes a picture, and turns, clips and scales its boxes.

    Args:
        root: folder that the name of the sample is relative to.
        longest_side: pixels that a larger picture is shrunk to.
    """
    try:
        content = file.path.read_bytes()
        image = decode_image(content, ImageLimits())
    except InvalidInputError as error:
        return DecodedFile(str(error))
    except OSError as error:
        return DecodedFile(f"it cannot be read ({error.strerror})")
    height, width = image.shape[:2]
    if min(width, height) < SMALLEST:
        return DecodedFile(f"smaller than {SMALLEST}×{SMALLEST} pixels")
    turn = TURNS.get(_orientation(content)) if file.size == (height, width) != (width, height) else None
    if file.size not in (None, (width, height)) and turn is None:
        stated_size = "×".join(map(str, file.size or ()))
        return DecodedFile(f"its annotation states {stated_size} pixels, but it has {width}×{height}")
    boxes, labels = list[Box](), list[int]()
    outside, without_area, clipped = list[StatedBox](), list[StatedBox](), list[StatedBox]()
    for stated in file.objects:
        left, top, right, bottom = _turn(stated.edges, turn, width, height) if turn else stated.edges
        if file.in_fractions:
            left, top, right, bottom = left * width, top * height, right * width, bottom * height
        box = clip((left, top, right, bottom), width, height)
        if right <= left or bottom <= top:
            without_area.append(stated)
        elif box is None:
            outside.append(stated)
        else:
            # Less than a pixel is the rounding of whoever wrote the annotation.
            if min(left, top) <= -1 or right >= width + 1 or bottom >= height + 1:
                clipped.append(stated)
            boxes.append(box)
            labels.append(stated.label)
    if longest_side is not None and max(width, height) > longest_side:
        image, boxes = _shrink(image, boxes, longest_side)
    sample = annotated_image(shown_path(file.path, root), image, boxes, labels)
    digest = hashlib.blake2b(content, digest_size=16).digest()
    return DecodedFile("", sample, digest, tuple(outside), tuple(without_area), tuple(clipped), turn is not None)


Turn = Callable[[float, float, float, float], tuple[float, float]]
TURNS: dict[int, Turn] = {
    5: lambda x, y, width, height: (y, x),
    6: lambda x, y, width, height: (width - y, x),
    7: lambda x, y, width, height: (width - y, height - x),
    8: lambda x, y, width, height: (y, height - x),
}
"""Where a point (x, y) of the stored picture is in the upright one of this width and height, by EXIF orientation."""


def _orientation(content: bytes) -> int:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged EXIF block rotates nothing
        return 1


def _turn(edges: Box, turn: Turn, width: int, height: int) -> Box:
    left, top, right, bottom = edges
    if right <= left or bottom <= top:
        return edges  # without an area however it is turned
    (x1, y1), (x2, y2) = turn(left, top, width, height), turn(right, bottom, width, height)
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def _shrink(image: np.ndarray, boxes: list[Box], longest_side: int) -> tuple[np.ndarray, list[Box]]:
    """Scales a picture so that its longer side has this many pixels, and its boxes."""
    height, width = image.shape[:2]
    scale = longest_side / max(width, height)
    new_width, new_height = max(1, round(scale * width)), max(1, round(scale * height))
    small = Image.fromarray(image).resize((new_width, new_height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    x, y = new_width / width, new_height / height
    return np.array(small), [(left * x, top * y, right * x, bottom * y) for left, top, right, bottom in boxes]
