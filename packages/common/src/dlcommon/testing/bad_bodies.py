"""Makes damaged files and decompression bombs."""

import functools
import gzip
import io
import struct
import zlib

import numpy as np
from PIL import Image

BOUNDARY = "a-boundary-4711"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
GZIP = gzip.compress(b"0" * 10_000_000)


def _encoded(kind: str, size: int = 64) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, kind)
    return file.getvalue()


@functools.cache
def png() -> bytes:
    return _encoded("PNG")


@functools.cache
def jpeg() -> bytes:
    return _encoded("JPEG")


def damaged_png() -> bytes:
    """Returns a PNG with valid chunks, whose pixels do not decompress."""
    content = bytearray(png())
    start = content.index(b"IDAT") + 40
    content[start : start + 400] = bytes(400)
    return bytes(content)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


@functools.cache
def png_bomb() -> bytes:
    """Returns a valid black-and-white PNG of 30,000 x 30,000 pixels in some hundred kilobytes."""
    side = 30_000
    packer = zlib.compressobj(9)
    row = bytes(1 + side // 8)
    pixels = b"".join([packer.compress(row * 100) for _ in range(side // 100)]) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def webp_bomb() -> bytes:
    """Returns a WebP header that announces 16,384 x 16,384 pixels."""
    side = (16_383).to_bytes(3, "little")
    chunk = b"VP8X" + struct.pack("<I", 10) + bytes([2, 0, 0, 0]) + side + side
    chunk += b"ANIM" + struct.pack("<I", 6) + bytes(6)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def gif_bomb() -> bytes:
    """Returns a GIF with a screen of 65,535 x 65,535 pixels."""
    screen = struct.pack("<HHBBB", 65_535, 65_535, 0x80, 0, 0) + bytes(6)
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0) + b"\x02\x02\x4c\x01\x00"
    return b"GIF89a" + screen + frame + b"\x3b"


def bmp_of_no_size() -> bytes:
    return b"BM" + struct.pack("<IHHI", 58, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, -5, 0, 1, 24, 0, 4, 0, 0, 0, 0)


def unknown_fields(count: int) -> bytes:
    """Returns a request whose one item has this many fields that no service knows."""
    return b'{"items":[{' + b",".join(b'"k%06d":1' % number for number in range(count)) + b"}]}"


def file_part(content: bytes, name: str = "picture.png", field: str = "files") -> bytes:
    """Returns one part of a multipart body, without the end."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
        "Content-Type: image/png\r\n\r\n"
    )
    return head.encode() + content + b"\r\n"


def end() -> bytes:
    return f"--{BOUNDARY}--\r\n".encode()


def multipart(content: bytes, name: str = "picture.png", field: str = "files") -> bytes:
    """Returns a whole multipart body with one file."""
    return file_part(content, name, field) + end()
