"""Reads images from parquet files, as the Hugging Face hub stores them: a column of {bytes, path}, and `label`."""

import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from dlcommon.runtime.data.dataset import DamagedDataError
from dlcommon.runtime.data.image_decoding import decode_image_file, encoding_of
from dlcommon.runtime.files import explained_disk_errors

ROWS_A_TASK = 1000


def _open(path: Path) -> Any:
    """Opens a parquet file.

    Raises:
        DamagedDataError: the file is empty, truncated or not a parquet file.
    """
    if path.stat().st_size == 0:
        raise DamagedDataError(path, "the file is empty")
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DamagedDataError(path, f"not a whole parquet file ({error})") from error


def _column(path: Path, table: Any, name: str) -> Any:
    """Returns a column of a table.

    Raises:
        DamagedDataError: there is none of that name.
    """
    if name not in table.schema.names:
        raise DamagedDataError(path, f"has no column {name!r}, only {', '.join(table.schema.names)}")
    return table.column(name)


def _encoded_images(path: Path, table: Any, name: str) -> list[bytes | None]:
    """Returns the encoded images of a table.

    Raises:
        DamagedDataError: the column is missing or of another type, or there are no rows.
    """
    column = _column(path, table, name)
    if not (pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0):
        raise DamagedDataError(path, f"column {name!r} is of type {column.type}, not a struct with 'bytes'")
    if not len(column):
        raise DamagedDataError(path, "has no rows")
    images: list[bytes | None] = column.combine_chunks().field("bytes").to_pylist()
    return images


def _labels(path: Path, table: Any, num_classes: int) -> list[int]:
    """Returns the labels of a table.

    Raises:
        DamagedDataError: the column is missing or of another type, or a label is not one of the classes.
    """
    column = _column(path, table, "label")
    if not pa.types.is_integer(column.type):
        raise DamagedDataError(path, f"column 'label' is of type {column.type}, not of integers")
    labels: list[int] = column.to_pylist()
    for row, label in enumerate(labels):
        if label is None or not 0 <= label < num_classes:
            raise DamagedDataError(path, f"the label is {label}, not from 0 to {num_classes - 1}", row)
    return labels


def _read(path: Path) -> Any:
    """Reads a whole parquet file.

    Raises:
        DamagedDataError: the file is not a parquet file, or a part of it is damaged.
    """
    with _open(path) as file:
        try:
            return file.read()
        except (pa.ArrowException, OSError) as error:
            raise DamagedDataError(path, f"cannot be read ({error})") from error


def first_encoding(path: Path, column: str = "img") -> str:
    """Returns how the first image is encoded: cheap, since only a part of the file is read."""
    with _open(path) as file:
        try:
            table = pa.Table.from_batches(islice(file.iter_batches(1), 1), file.schema_arrow)
        except (pa.ArrowException, OSError) as error:
            raise DamagedDataError(path, f"cannot be read ({error})") from error
    (first,) = _encoded_images(path, table, column)
    return encoding_of(first or b"") or "unknown encoding"


def read_images(path: Path, size: tuple[int, int], num_classes: int) -> tuple["np.ndarray", "np.ndarray", set[str]]:
    """Reads, validates and decodes a whole table of labelled images.

    Args:
        size: height and width that every image must have.
        num_classes: labels must be at least 0 and below this.

    Returns:
        uint8 [rows, height, width, 3], int64 [rows], and the encodings that occur.

    Raises:
        DamagedDataError: names the file, and the row where there is one.
    """
    table = _read(path)
    contents, labels = _encoded_images(path, table, "img"), _labels(path, table, num_classes)
    images, encodings = _decode(path, contents, size)
    return images, np.asarray(labels, np.int64), encodings


def read_unlabelled_images(path: Path, size: tuple[int, int], column: str) -> tuple["np.ndarray", set[str]]:
    """Reads, validates and decodes a whole table of images, as `read_images` does.

    Returns:
        uint8 [rows, height, width, 3], and the encodings that occur.

    Raises:
        DamagedDataError: names the file, and the row where there is one.
    """
    return _decode(path, _encoded_images(path, _read(path), column), size)


def _decode(path: Path, contents: list[bytes | None], size: tuple[int, int]) -> tuple["np.ndarray", set[str]]:

    images = np.empty((len(contents), *size, 3), np.uint8)

    def decode(start: int) -> set[str]:
        encodings = set()
        for row in range(start, min(start + ROWS_A_TASK, len(contents))):
            images[row], encoding = decode_image_file(contents[row], path, row, size)
            encodings.add(encoding)
        return encodings

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        encodings = set().union(*pool.map(decode, range(0, len(contents), ROWS_A_TASK)))
    return images, encodings


def write_images(path: Path, images: "np.ndarray", labels: "np.ndarray", classes: tuple[str, ...]) -> None:
    """Writes images uint8 [rows, height, width, 3] as PNG, with the schema that the hub's tables have."""

    def encode(image: "np.ndarray") -> bytes:
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
