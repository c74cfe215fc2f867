"""Labelled images in a parquet file, as the Hugging Face hub stores them: `img` {bytes, path} and `label`."""

import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from PIL import Image, UnidentifiedImageError

from dlcommon.runtime.data.dataset import DamagedDataError
from dlcommon.runtime.files import explained_disk_errors

MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG"}
ROWS_A_TASK = 1000
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
"""A header that claims a gigantic size; the second only where warnings are errors."""


def encoding_of(content: bytes) -> str | None:
    """JPEG, PNG, or None for anything else."""
    return next((name for magic, name in MAGIC.items() if content.startswith(magic)), None)


def _open(path: Path) -> Any:
    if path.stat().st_size == 0:
        raise DamagedDataError(path, "the file is empty")
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DamagedDataError(path, f"not a whole parquet file ({error})") from error


def _columns(path: Path, table: Any) -> tuple[list[bytes | None], list[int | None]]:
    schema = table.schema
    for column in ("img", "label"):
        if column not in schema.names:
            raise DamagedDataError(path, f"has no column {column!r}, only {', '.join(schema.names)}")
    images, labels = schema.field("img").type, schema.field("label").type
    if not (pa.types.is_struct(images) and images.get_field_index("bytes") >= 0):
        raise DamagedDataError(path, f"column 'img' is of type {images}, not a struct with 'bytes'")
    if not pa.types.is_integer(labels):
        raise DamagedDataError(path, f"column 'label' is of type {labels}, not of integers")
    rows = [] if table.num_rows == 0 else table.column("img").combine_chunks().field("bytes").to_pylist()
    return rows, table.column("label").to_pylist()


def first_encoding(path: Path) -> str:
    """How the first image is encoded: cheap, since only a part of the file is read."""
    with _open(path) as file:
        try:
            rows, _ = _columns(path, pa.Table.from_batches(islice(file.iter_batches(1), 1), file.schema_arrow))
        except (pa.ArrowException, OSError) as error:
            raise DamagedDataError(path, f"cannot be read ({error})") from error
    if not rows:
        raise DamagedDataError(path, "has no rows")
    return encoding_of(rows[0] or b"") or "unknown encoding"


def read_images(path: Path, size: tuple[int, int], classes: int) -> tuple[np.ndarray, np.ndarray, set[str]]:
    """Reads, validates and decodes the whole table.

    Args:
        size: height and width that every image must have.
        classes: labels must be at least 0 and below this.

    Returns:
        uint8 [rows, height, width, 3], int64 [rows], and the encodings that occur.

    Raises:
        DamagedDataError: names the file, and the row where there is one.
    """
    with _open(path) as file:
        try:
            contents, labels = _columns(path, file.read())
        except (pa.ArrowException, OSError) as error:
            raise DamagedDataError(path, f"cannot be read ({error})") from error
    if not contents:
        raise DamagedDataError(path, "has no rows")
    for row, label in enumerate(labels):
        if label is None or not 0 <= label < classes:
            raise DamagedDataError(path, f"the label is {label}, not from 0 to {classes - 1}", row)
    images = np.empty((len(contents), *size, 3), np.uint8)

    def decode(start: int) -> set[str]:
        rows = range(start, min(start + ROWS_A_TASK, len(contents)))
        return {_decode(path, row, contents[row], images[row]) for row in rows}

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        encodings = set().union(*pool.map(decode, range(0, len(contents), ROWS_A_TASK)))
    return images, np.asarray(labels, np.int64), encodings


def _decode(path: Path, row: int, content: bytes | None, into: np.ndarray) -> str:
    """Decodes one image into an array [height, width, 3]; returns its encoding."""
    if not content:
        raise DamagedDataError(path, "the image is missing", row)
    encoding = encoding_of(content)
    if encoding is None:
        raise DamagedDataError(path, "the image is neither JPEG nor PNG", row)
    height, width = into.shape[:2]
    try:
        with Image.open(io.BytesIO(content), formats=(encoding,)) as image:
            if image.size != (width, height):
                raise DamagedDataError(
                    path, f"the image has {image.width}×{image.height} pixels, not {width}×{height}", row
                )
            into[:] = image if image.mode == "RGB" else image.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, *BOMBS) as error:
        raise DamagedDataError(path, f"the image cannot be decoded ({error})", row) from error
    return encoding


def write_images(path: Path, images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> None:
    """Writes images uint8 [rows, height, width, 3] as PNG, with the schema that the hub's tables have."""

    def encode(image: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        return buffer.getvalue()

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        rows = [
            {"bytes": content, "path": f"{row:05d}.png"}
            for row, content in enumerate(pool.map(encode, images, chunksize=ROWS_A_TASK))
        ]
    features = {"img": {"_type": "Image"}, "label": {"names": list(classes), "_type": "ClassLabel"}}
    schema = pa.schema(
        [("img", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    with explained_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"img": rows, "label": labels}, schema=schema), path, row_group_size=ROWS_A_TASK)
