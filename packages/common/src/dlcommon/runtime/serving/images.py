"""Decodes images from untrusted clients: bounded before decoding, always RGB arrays afterwards."""

import base64
import binascii
import io
import re
import struct
import warnings
from dataclasses import dataclass
from typing import Annotated, Any, cast

import numpy as np
from PIL import Image, ImageOps
from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from dlcommon.runtime.errors import InvalidInputError

KINDS = "PNG, JPEG, WebP, GIF or BMP"
SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp")
"""Endings of the names of such files."""
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"BM")
LEAST_VISIBLE = 16
"""Levels of 255 by which something must differ from a white background to be seen."""
_DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)(;[\w.+=-]+)*?;base64,", re.ASCII)


@dataclass(frozen=True)
class ImageLimits:
    """Limits the size of one image."""

    max_pixels: int = 25_000_000
    """Width times height."""


def refuse_decompression_bombs() -> None:
    """Makes Pillow refuse pictures beyond its bound, where it only warns of those up to twice as large."""
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def _has_known_signature(content: bytes) -> bool:
    return content.startswith(_SIGNATURES) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")


def _webp_size(content: bytes) -> tuple[int, int]:
    """Reads width and height in a WebP header, since Pillow allocates the canvas as it opens one."""
    chunk, data = content[12:16], content[20:30]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[4:7], "little"), 1 + int.from_bytes(data[7:10], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(data[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", data[6:10])
    return width & 0x3FFF, height & 0x3FFF


def _check_size(width: int, height: int, limits: ImageLimits) -> None:
    if width < 1 or height < 1:
        raise InvalidInputError("the image has no pixels")
    if width * height > limits.max_pixels:
        raise InvalidInputError(f"the image has {width} x {height} pixels; at most {limits.max_pixels:,} are accepted")


def _to_rgb(image: Image.Image) -> Image.Image:
    """Converts to 8-bit RGB; 16-bit grey keeps its upper byte."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        scale = 257.0 if image.mode.startswith("I") else 1.0
        return Image.fromarray(np.clip(values / scale, 0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        return _on_background(image.convert("RGBA"))
    return image.convert("RGB")


def _on_background(image: Image.Image) -> Image.Image:
    """Puts a picture with transparent parts on white, or on black where on white nothing of it could be seen."""
    on_white, on_black = (
        Image.alpha_composite(Image.new("RGBA", image.size, colour), image).convert("RGB")
        for colour in ("white", "black")
    )
    darkest = min(low for low, _ in cast("list[tuple[int, int]]", on_white.getextrema()))
    lightest = max(high for _, high in cast("list[tuple[int, int]]", on_black.getextrema()))
    white_on_nothing = darkest > 255 - LEAST_VISIBLE and lightest >= LEAST_VISIBLE
    return on_black if white_on_nothing else on_white


def decode_image(content: bytes, limits: ImageLimits) -> np.ndarray:
    """Decodes the first frame of an image file, upright as its EXIF orientation says.

    Returns:
        uint8 [height, width, 3], RGB; transparent parts are white, or black in a picture that is white itself.

    Raises:
        InvalidInputError: empty, of another kind, damaged, or more pixels than the limits allow.
    """
    if not content:
        raise InvalidInputError("the image is empty (0 bytes)")
    if not _has_known_signature(content):
        raise InvalidInputError(f"this is not an image in {KINDS}")
    try:
        if content[:4] == b"RIFF":
            _check_size(*_webp_size(content), limits)
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            _check_size(*image.size, limits)
            image.load()
            return np.asarray(_to_rgb(_upright(image)))
    except InvalidInputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        message = f"the image has too many pixels; at most {limits.max_pixels:,} are accepted"
        raise InvalidInputError(message) from error
    except Exception as error:  # decoders raise all kinds of exceptions on damaged files
        raise InvalidInputError("the image is damaged or cut off") from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block does not make the picture unusable
        return image


def _image_bytes(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if not isinstance(value, str):
        raise PydanticCustomError("base64_image", "an image is sent as base64 text")
    if value[:8].lower().startswith(("http://", "https://", "file://", "ftp://")):
        raise PydanticCustomError("base64_image", "addresses are not fetched; send the image itself in base64")
    if value[:5].lower() == "data:":
        header = _DATA_URL.match(value[:200])
        if header is None or not header["type"].lower().startswith("image/"):
            raise PydanticCustomError("base64_image", "a data: URL must read data:image/…;base64,…")
        value = value[header.end() :]
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise PydanticCustomError("base64_image", "this is not valid base64") from error


Base64Image = Annotated[
    bytes,
    BeforeValidator(_image_bytes),
    WithJsonSchema(
        {
            "type": "string",
            "contentEncoding": "base64",
            "contentMediaType": "image/*",
            "description": f"An image in {KINDS}: base64, or a data: URL.",
        }
    ),
]
"""Field of a request item: base64 text or a data: URL in JSON, plain bytes from an upload."""
