"""Draws what was found onto a picture: a box around each object, in its class's color, with name and score."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from yolo_detector.classes import CHINESE, color_of, shown_name

CHINESE_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "NotoSansSC-Regular.otf",
    "SourceHanSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "msyh.ttc",
    "simhei.ttf",
)
"""Files of fonts that have Chinese letters, on Linux, macOS and Windows; Pillow's own font has none."""
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Labeled:
    """One object to draw."""

    name: str
    score: float
    box: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels."""


@lru_cache(maxsize=64)
def font(size: int) -> tuple[Font, bool]:
    """Returns a font of this height in pixels, and whether it has Chinese letters."""
    for name in CHINESE_FONTS:
        try:
            return ImageFont.truetype(name, size), True
        except OSError:
            continue
    return ImageFont.load_default(size), False


def line_width(width: int, height: int) -> int:
    """Returns the width in pixels of the boxes' lines, which grows with the picture."""
    return max(1, round((width + height) / 2 * 0.004))


def annotated(image: np.ndarray, objects: Sequence[Labeled], names: Sequence[str]) -> np.ndarray:
    """Draws boxes onto a copy of a picture, the surest last, so that it lies on top.

    Args:
        image: uint8 [height, width, 3].
        objects: what to draw.
        names: the model's classes, whose order decides their colors.

    Returns:
        uint8 [height, width, 3].
    """
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    for each in sorted(objects, key=lambda one: one.score):
        _draw_box(draw, each, color_of(each.name, names))
    for each in sorted(objects, key=lambda one: one.score):  # above the boxes of all
        _draw_label(draw, each, color_of(each.name, names))
    return np.array(picture)


def _draw_box(draw: ImageDraw.ImageDraw, each: Labeled, color: tuple[int, int, int]) -> None:
    line = line_width(*draw.im.size)
    left, top, right, bottom = (round(side) for side in each.box)
    # A white rim, so that no color is lost on a ground like it.
    draw.rectangle((left - 1, top - 1, max(right, left) + 1, max(bottom, top) + 1), outline="white", width=line + 2)
    draw.rectangle((left, top, max(right, left), max(bottom, top)), outline=color, width=line)


def _draw_label(draw: ImageDraw.ImageDraw, each: Labeled, color: tuple[int, int, int]) -> None:
    width, height = draw.im.size
    letters, has_chinese = font(max(10, round((width + height) / 2 * 0.022)))
    left, top, right, _ = each.box
    text = _fitting(letters, _variants(each, has_chinese), right - left)
    x0, y0, x1, y1 = letters.getbbox(text)
    wide, high = x1 - x0 + 4, y1 - y0 + 4
    x = min(max(left, 0), max(width - wide, 0))
    y = top - high if top >= high else min(max(top, 0), max(height - high, 0))  # above the box, or within
    draw.rectangle((x, y, x + wide, y + high), fill=color)
    light = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 140
    draw.text((x + 2 - x0, y + 2 - y0), text, fill="black" if light else "white", font=letters)


def _variants(each: Labeled, has_chinese: bool) -> list[str]:
    """Returns what can be written beside a box, the longest first."""
    score = f"{each.score:.2f}".removeprefix("0")
    # Without a font for them, letters beyond Latin would be empty frames.
    name = each.name if has_chinese or each.name.isascii() else each.name.encode("ascii", "replace").decode()
    both = [f"{shown_name(each.name, ' ')} {score}"] if has_chinese and each.name in CHINESE else []
    return [*both, f"{name} {score}", name]


def _fitting(letters: Font, texts: Sequence[str], width: float) -> str:
    """Returns the first text that is no wider than a box, or else the last."""
    return next((text for text in texts if letters.getlength(text) + 4 <= width), texts[-1])
