"""Reads labelled images from a parquet file, as the Hugging Face hub stores them: `img` {bytes, path} and `label`."""

import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlcommon.runtime.data.dataset import DamagedDataError
from dlcommon.runtime.data.image_decoding import decode_image, encoding_of
from dlcommon.runtime.files import explained_disk_errors

if TYPE_CHECKING:
    import numpy as np

ROWS_A_TASK = 1000


def _open(path: Path) -> Any:
    """Opens a parquet file.

    Raises:
        DamagedDataError: it is none, or it is broken off.
    """
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    if path.stat().st_size == 0:
        raise DamagedDataError(path, "the file is empty")
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DamagedDataError(path, f"not a whole parquet file ({error})") from error


def _columns(path: Path, table: Any) -> tuple[list[bytes | None], list[int | None]]:
    """Returns the encoded images and the labels of a table.

    Raises:
        DamagedDataError: a column is missing or of another type.
    """
    import pyarrow as pa

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
    """Returns how the first image is encoded: cheap, since only a part of the file is read."""
    import pyarrow as pa

    with _open(path) as file:
        try:
            rows, _ = _columns(path, pa.Table.from_batches(islice(file.iter_batches(1), 1), file.schema_arrow))
        except (pa.ArrowException, OSError) as error:
            raise DamagedDataError(path, f"cannot be read ({error})") from error
    if not rows:
        raise DamagedDataError(path, "has no rows")
    return encoding_of(rows[0] or b"") or "unknown encoding"


def read_images(path: Path, size: tuple[int, int], classes: int) -> tuple["np.ndarray", "np.ndarray", set[str]]:
    """Reads, validates and decodes the whole table.

    Args:
        size: height and width that every image must have.
        classes: labels must be at least 0 and below this.

    Returns:
        uint8 [rows, height, width, 3], int64 [rows], and the encodings that occur.

    Raises:
        DamagedDataError: names the file, and the row where there is one.
    """
    import numpy as np
    import pyarrow as pa

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
        encodings = set()
        for row in range(start, min(start + ROWS_A_TASK, len(contents))):
            images[row], encoding = decode_image(contents[row], path, row, size)
            encodings.add(encoding)
        return encodings

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        encodings = set().union(*pool.map(decode, range(0, len(contents), ROWS_A_TASK)))
    return images, np.asarray(labels, np.int64), encodings


def write_images(path: Path, images: "np.ndarray", labels: "np.ndarray", classes: tuple[str, ...]) -> None:
    """Writes images uint8 [rows, height, width, 3] as PNG, with the schema that the hub's tables have."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

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
