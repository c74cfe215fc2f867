"""Writes small detection data sets in the formats of other tools."""

import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

ORIENTATION = ExifTags.Base.Orientation


def write_picture(path: Path, size: tuple[int, int] = (40, 30), orientation: int | None = None) -> Path:
    """Writes random pixels, others for every path, as the name's ending says.

    Args:
        size: width and height as stored, before the EXIF rotation.
        orientation: value of the EXIF block, if there is to be one.
    """
    random = np.random.default_rng(zlib.crc32(path.as_posix().encode()))
    exif = Image.Exif()
    if orientation is not None:
        exif[ORIENTATION] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(path, exif=exif)
    return path


def write_text(path: Path, text: str) -> Path:
    """Writes a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def voc_text(objects: Iterable[tuple[object, ...]], size: tuple[object, object] = (40, 30)) -> str:
    """Returns an annotation of PASCAL VOC; an object is class, left, top, right, bottom."""
    form = (
        "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
    )
    boxes = "".join(form.format(*parts) for parts in objects)
    stated = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    return f"<annotation>{stated}{boxes}</annotation>"


def write_yolo(folder: Path, per_split: int = 3, splits: Iterable[str] = ("train", "val", "test")) -> Path:
    """Writes a data set in YOLO's layout: every picture has a cat on the left and a dog on the right."""
    for split in splits:
        for number in range(per_split):
            write_picture(folder / "images" / split / f"{split}{number}.png")
            write_text(folder / "labels" / split / f"{split}{number}.txt", "0 0.25 0.5 0.5 0.5\n1 0.75 0.5 0.25 1\n")
    paths = "".join(f"{split}: images/{split}\n" for split in splits)
    write_text(folder / "data.yaml", f"{paths}names: [cat, dog]\n")
    return folder


def write_coco(path: Path, images: list[Any], annotations: list[Any], categories: list[Any] | None = None) -> Path:
    """Writes annotations in COCO's format; the ids of the categories have gaps and are not in order."""
    named = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}] if categories is None else categories
    return write_text(path, json.dumps({"images": images, "annotations": annotations, "categories": named}))
