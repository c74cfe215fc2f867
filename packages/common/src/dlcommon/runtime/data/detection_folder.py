"""Reads a user's folder of pictures with boxes, in YOLO's, COCO's or PASCAL VOC's format, whichever it is.

Boxes count from the top left of the picture as it is shown, that is, after the rotation that its EXIF block asks for;
so does Ultralytics' reader (`exif_size`). Only where an annotation states the size that the file has before the
rotation, its boxes were drawn before it, too, and are turned with the picture.
"""

import hashlib
import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from dlcommon.runtime.data.annotated_pictures import (
    SPLITS,
    AnnotatedFile,
    DetectionFiles,
    Findings,
    Split,
    StatedBox,
    complete_splits,
    listed,
)
from dlcommon.runtime.data.coco_annotations import find_coco, read_coco
from dlcommon.runtime.data.detection import AnnotatedImage, Box, ObjectDetection, annotated_image, clip
from dlcommon.runtime.data.picture_folder import visible_files
from dlcommon.runtime.data.voc_folder import find_voc, read_voc_folder
from dlcommon.runtime.data.yolo_labels import find_yolo, read_yolo
from dlcommon.runtime.errors import InvalidInputError, UsageError
from dlcommon.runtime.serving.images import SUFFIXES, ImageLimits, decode_image

SMALLEST = 10
"""Sides of a picture that is not too small, in pixels; Ultralytics' reader has the same bound."""
OTHER_PICTURES = (".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".dng", ".jxl")
FORMATS = {"YOLO": find_yolo, "COCO": find_coco, "VOC": find_voc}
LAYOUTS = f"""
  YOLO  data.yaml with train, val and names (or classes.txt), images/…/a.jpg and labels/…/a.txt of rows
        `class x y width height`, numbers from 0 to 1
  COCO  annotations/instances_train.json, or train/_annotations.coco.json, or one JSON file, with images, annotations
        and categories
  VOC   a.xml for every a.jpg, beside it or in Annotations/ (and, if at hand, ImageSets/Main/train.txt, val.txt and
        test.txt)
Pictures end in {", ".join(SUFFIXES)}."""


def list_folder(path: Path) -> tuple[DetectionFiles, Findings]:
    """Tells the format of a folder and reads its annotations, but no picture.

    Args:
        path: a folder; or a YAML or JSON file of one, which says which of several is meant.

    Raises:
        UsageError: it is in none of the formats, or in several; or its annotations cannot be used.
    """
    path = path.resolve()
    if path.is_file():
        if path.suffix.lower() in (".yaml", ".yml"):
            found = {"YOLO": [path]}
        elif path.suffix.lower() == ".json":
            found = {"COCO": [path]}
        else:
            raise UsageError(f"{path} is a file; name a folder, or a .yaml or .json file of a data set")
        root = path.parent.parent if path.parent.name == "annotations" else path.parent
    elif path.is_dir():
        root = path
        found = {name: files for name, find in FORMATS.items() if (files := find(root))}
    else:
        raise UsageError(f"{path}: there is no such folder")
    findings = Findings(root)
    if not found:
        raise UsageError(f"{root} holds no annotations in a format that is known here:{LAYOUTS}")
    if len(found) > 1:
        seen = ", ".join(f"{name} ({findings.name(files[0])})" for name, files in found.items())
        raise UsageError(
            f"{root} holds annotations in more than one format: {seen}; move those that are not meant out of it, or "
            f"name the .yaml or .json file itself instead of the folder{LAYOUTS}"
        )
    ((name, sources),) = found.items()
    if name == "YOLO" and len(sources) > 1:
        names = ", ".join(map(findings.name, sources))
        raise UsageError(f"{root} holds several YAML files of data sets ({names}); name the one that is meant")
    readers: dict[str, Callable[[], DetectionFiles]] = {
        "YOLO": lambda: read_yolo(findings, sources[0]),
        "COCO": lambda: read_coco(findings, sources),
        "VOC": lambda: read_voc_folder(findings),
    }
    files = readers[name]()
    for other in visible_files(root, OTHER_PICTURES):
        findings.count("picture of a kind that is not read here; convert it to PNG or JPEG", other.as_posix())
    return files, findings


@dataclass(frozen=True)
class _Read:
    """Holds one picture after decoding, or why it is skipped."""

    file: AnnotatedFile
    problem: str = ""
    sample: AnnotatedImage | None = None
    digest: bytes = b""
    outside: tuple[StatedBox, ...] = ()
    without_area: tuple[StatedBox, ...] = ()
    clipped: tuple[StatedBox, ...] = ()
    turned: bool = False


def read_detection_folder(path: Path, longest_side: int | None = None) -> ObjectDetection:
    """Reads and decodes a folder in YOLO's, COCO's or VOC's format.

    Broken rows, boxes outside of their picture and broken pictures are skipped; `notes` name the first few of each kind
    with its number, `skipped` names every row.

    Args:
        path: a folder, or its YAML or JSON file.
        longest_side: pixels; larger pictures are shrunk to it as they are read, with their boxes.

    Raises:
        UsageError: the folder cannot be used: its format, a picture in two splits, or too many broken rows or pictures.
    """
    files, findings = list_folder(path)
    root = findings.root
    members = complete_splits(files, findings)
    splits: dict[Split, list[AnnotatedImage]] = {split: [] for split in SPLITS}
    first_copy: dict[bytes, tuple[Split, AnnotatedFile]] = {}
    stated_split = {file.path: split for split, stated in files.splits.items() for file in stated}
    copies: list[str] = []
    order = [(split, file) for split in SPLITS for file in members[split]]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = pool.map(partial(_read, root=root, longest_side=longest_side), [file for _, file in order])
        for (split, file), result in zip(order, results, strict=True):
            name = findings.name(file.path)
            _record(result, name, findings)
            if result.sample is None:
                continue
            first_split, first = first_copy.setdefault(result.digest, (split, file))
            if first_split == split:
                splits[split].append(result.sample)
            elif stated_split.get(file.path) != stated_split.get(first.path):
                copies.append(f"{findings.name(first.path)} and {name}")
            else:  # the drawing put them into two splits
                findings.count(f"picture left out: its copy, byte for byte, is in {first_split}", name)
    if copies:
        raise UsageError(
            f"{root}: {len(copies)} pictures are in two splits, byte for byte the same, so that a model would be "
            f"tested on what it learned: {listed(copies)}; remove one of each pair"
        )
    findings.check()
    empty = [split for split in SPLITS if not splits[split]]
    if empty:
        raise UsageError(
            f"{root}: no usable picture is left for {' and '.join(empty)} (of {findings.pictures} pictures)"
            + "".join(f"\n  {line}" for line in findings.messages())
        )
    if not any(len(sample.boxes) for sample in splits["train"]):
        lines = "".join(f"\n  {line}" for line in findings.messages())
        raise UsageError(f"{root}: no picture to train on has a box{lines}")
    counts = ", ".join(f"{len(splits[split])} {split}" for split in SPLITS)
    headline = f"{files.format} format, {len(files.classes)} classes; pictures: {counts}"
    train, validation, test = (tuple(splits[split]) for split in SPLITS)
    notes = (headline, *findings.messages())
    return ObjectDetection(train, validation, test, files.classes, tuple(findings.skipped_rows), notes)


def _record(result: _Read, name: str, findings: Findings) -> None:
    """Tells the findings what became of a picture and its boxes."""
    if result.problem:
        findings.skip_picture(result.problem, name)
    for box in result.outside:
        findings.skip_row("its box lies outside of the picture", _with_edges(box))
    for box in result.without_area:
        findings.skip_row("its box has no area", _with_edges(box), broken=False)
    for box in result.clipped:
        findings.count("box cut off at the border of its picture", _with_edges(box))
    if result.turned:
        findings.count("boxes turned with the picture, since their file states its size before the EXIF rotation", name)


def _with_edges(box: StatedBox) -> str:
    return f"{box.place} ({', '.join(f'{edge:g}' for edge in box.edges)})"


def _read(file: AnnotatedFile, root: Path, longest_side: int | None) -> _Read:
    """Decodes a picture, and turns, clips and scales its boxes."""
    try:
        content = file.path.read_bytes()
        image = decode_image(content, ImageLimits())
    except InvalidInputError as error:
        return _Read(file, str(error))
    except OSError as error:
        return _Read(file, f"it cannot be read ({error.strerror})")
    height, width = image.shape[:2]
    if min(width, height) < SMALLEST:
        return _Read(file, f"smaller than {SMALLEST}×{SMALLEST} pixels")
    turned = file.size == (height, width) != (width, height) and _orientation(content) in TURNS
    if file.size not in (None, (width, height)) and not turned:
        stated_size = "×".join(map(str, file.size or ()))
        return _Read(file, f"its annotation states {stated_size} pixels, but it has {width}×{height}")
    boxes, labels = list[Box](), list[int]()
    outside, without_area, clipped = list[StatedBox](), list[StatedBox](), list[StatedBox]()
    for stated in file.objects:
        left, top, right, bottom = _turn(stated.edges, content, width, height) if turned else stated.edges
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
    name = file.path.relative_to(root).as_posix()
    sample = annotated_image(name, image, boxes, labels)
    digest = hashlib.blake2b(content, digest_size=16).digest()
    return _Read(file, "", sample, digest, tuple(outside), tuple(without_area), tuple(clipped), turned)


TURNS: dict[int, Callable[[float, float, float, float], tuple[float, float]]] = {
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


def _turn(edges: Box, content: bytes, width: int, height: int) -> Box:
    turn = TURNS[_orientation(content)]
    (x1, y1), (x2, y2) = (turn(*edges[place : place + 2], width, height) for place in (0, 2))
    if edges[2] <= edges[0] or edges[3] <= edges[1]:
        return edges  # without an area however it is turned
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def _shrink(image: np.ndarray, boxes: list[Box], longest_side: int) -> tuple[np.ndarray, list[Box]]:
    """Scales a picture so that its longer side has this many pixels, and its boxes."""
    height, width = image.shape[:2]
    scale = longest_side / max(width, height)
    new_width, new_height = max(1, round(scale * width)), max(1, round(scale * height))
    small = Image.fromarray(image).resize((new_width, new_height), Image.Resampling.LANCZOS)
    x, y = new_width / width, new_height / height
    return np.array(small), [(left * x, top * y, right * x, bottom * y) for left, top, right, bottom in boxes]
