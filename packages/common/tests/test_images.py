"""Images of every mode become the same array; bad ones are refused before they are decoded."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from dlcommon.runtime.errors import InvalidInputError
from dlcommon.runtime.serving.images import Base64Image, ImageLimits, decode_image
from dlcommon.testing import bad_bodies
from PIL import Image
from pydantic import BaseModel, ValidationError

LIMITS = ImageLimits(max_pixels=10_000)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def two_by_three() -> np.ndarray:
    """uint8 [2, 3, 3] of distinct colours."""
    return np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 14


def test_lossless_formats_are_exact() -> None:
    expected = two_by_three()
    image = Image.fromarray(expected)
    for content in (encoded(image), encoded(image, "BMP"), encoded(image, "WEBP", lossless=True)):
        decoded = decode_image(content, LIMITS)
        assert decoded.dtype == np.uint8
        np.testing.assert_array_equal(decoded, expected)


def test_jpeg_is_close() -> None:
    expected = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    decoded = decode_image(encoded(Image.fromarray(expected), "JPEG", quality=95), LIMITS)
    np.testing.assert_allclose(decoded.astype(int), expected, atol=3)


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "CMYK"])
def test_other_modes_become_rgb(mode: str) -> None:
    image = Image.fromarray(np.asarray([[0, 255], [255, 0]], np.uint8)).convert(mode)
    kind = "JPEG" if mode == "CMYK" else "PNG"
    decoded = decode_image(encoded(image, kind, **({"quality": 100} if kind == "JPEG" else {})), LIMITS)
    expected = np.repeat(np.asarray([[0, 255], [255, 0]], np.uint8)[..., None], 3, axis=2)
    np.testing.assert_allclose(decoded.astype(int), expected, atol=2 if kind == "JPEG" else 0)


def test_sixteen_bit_grey_keeps_its_upper_byte() -> None:
    values = np.asarray([[0, 65535], [257 * 100, 257 * 200]], np.uint16)
    decoded = decode_image(encoded(Image.fromarray(values)), LIMITS)
    np.testing.assert_array_equal(decoded[..., 0], [[0, 255], [100, 200]])
    np.testing.assert_array_equal(decoded[..., 0], decoded[..., 2])


def test_transparency_shows_white() -> None:
    image = Image.fromarray(np.asarray([[[255, 0, 0, 0], [255, 0, 0, 255], [0, 0, 0, 128]]], np.uint8))
    decoded = decode_image(encoded(image), LIMITS)
    np.testing.assert_allclose(decoded[0].astype(int), [[255, 255, 255], [255, 0, 0], [127, 127, 127]], atol=1)


def test_white_on_a_transparent_canvas_shows_on_black() -> None:
    """A drawing program's export of white strokes, which on white would be an empty page."""
    pixels = np.zeros((2, 3, 4), np.uint8)
    pixels[0, 1] = (255, 255, 255, 255)
    pixels[1, 1] = (250, 255, 252, 128)
    decoded = decode_image(encoded(Image.fromarray(pixels)), LIMITS)
    assert decoded[..., 0].tolist() == [[0, 255, 0], [0, 125, 0]]
    pixels[1, 2] = (0, 0, 0, 255)  # something dark makes it a picture on white
    assert decode_image(encoded(Image.fromarray(pixels)), LIMITS)[0, 0].tolist() == [255, 255, 255]
    nothing = Image.fromarray(np.zeros((2, 2, 4), np.uint8))
    assert (decode_image(encoded(nothing), LIMITS) == 255).all()


def test_a_transparent_palette_colour_shows_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    decoded = decode_image(encoded(image, transparency=0), LIMITS)
    np.testing.assert_array_equal(decoded[0], [[255, 255, 255], [40, 50, 60]])


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        np.testing.assert_array_equal(decode_image(content, LIMITS)[0, 0], [255, 0, 0])


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [(1, [[0, 1, 2], [3, 4, 5]]), (3, [[5, 4, 3], [2, 1, 0]]), (6, [[3, 0], [4, 1], [5, 2]])],
)
def test_exif_orientation_is_applied(orientation: int, expected: list[list[int]]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    np.testing.assert_array_equal(decode_image(encoded(image, exif=exif), LIMITS)[..., 0], expected)


def test_damaged_exif_does_not_lose_the_picture() -> None:
    content = encoded(Image.fromarray(two_by_three()), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\0\0")
    np.testing.assert_array_equal(decode_image(content, LIMITS), two_by_three())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"%PDF-1.7", "not an image"),
        (bad_bodies.SVG, "not an image"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (bad_bodies.png()[:-40], "damaged"),
        (bad_bodies.jpeg()[:300], "damaged"),
        (bad_bodies.damaged_png(), "damaged"),
        (b"RIFF\0\0\0\0WEBP", "damaged"),
        (b"BM" + bytes(60), "damaged"),
        (b"GIF89a", "damaged"),
        (bad_bodies.bmp_of_no_size(), "no pixels|damaged"),
        (bad_bodies.webp_bomb(), "pixels; at most 10,000"),
        (bad_bodies.gif_bomb(), "pixels; at most 10,000"),
        (bad_bodies.png_bomb(), "pixels; at most 10,000"),
        (encoded(Image.new("L", (101, 100))), "101 x 100 pixels; at most 10,000"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_images_are_refused_with_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        decode_image(content, LIMITS)


def test_kinds_that_are_not_listed_are_refused() -> None:
    for kind in ("TIFF", "ICO", "PPM"):
        with pytest.raises(InvalidInputError, match="not an image in PNG"):
            decode_image(encoded(Image.new("RGB", (16, 16)), kind), LIMITS)


class Picture(BaseModel):
    image: Base64Image


def test_base64_image_takes_text_a_data_url_and_bytes() -> None:
    content = bad_bodies.png()
    text = base64.b64encode(content).decode()
    folded = "\n".join(text[start : start + 76] for start in range(0, len(text), 76))
    for value in (
        text,
        folded,
        f"data:image/png;base64,{text}",
        f"data:image/png;name=a.png;base64,{text}",
        content,
    ):
        assert Picture(image=value).image == content
    assert Picture.model_json_schema()["properties"]["image"]["contentEncoding"] == "base64"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("%%%", "not valid base64"),
        ("abcde", "not valid base64"),
        ("é" * 8, "not valid base64"),
        ("https://example.org/a.png", "not fetched"),
        ("file:///etc/passwd", "not fetched"),
        ("data:text/html;base64,PGI+", "data: URL"),
        ("data:image/png,abc", "data: URL"),
        (12, "base64 text"),
        (None, "base64 text"),
    ],
)
def test_what_is_no_base64_image_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Picture(image=value)
