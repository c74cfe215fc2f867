"""Reads a user's folder of pictures with boxes, in YOLO's, COCO's or PASCAL VOC's format, whichever it is."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from dlcommon.runtime.data.annotated_decoding import DecodedFile, decode_annotated
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
from dlcommon.runtime.data.detection import AnnotatedImage, ObjectDetection
from dlcommon.runtime.data.picture_folder import visible_files
from dlcommon.runtime.data.voc_folder import find_voc, read_voc_folder
from dlcommon.runtime.data.yolo_labels import find_yolo, read_yolo
from dlcommon.runtime.errors import UsageError
from dlcommon.runtime.serving.images import SUFFIXES

OTHER_PICTURES = (".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".dng", ".jxl")
MOST_CLASSES = 20
"""Classes that a message names."""
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
    try:
        return _list_folder(path.resolve())
    except OSError as error:
        raise UsageError(f"{error.filename} cannot be read ({error.strerror})") from error


def _list_folder(path: Path) -> tuple[DetectionFiles, Findings]:
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
    stated = readers[name]()
    findings.check()
    for other in visible_files(root, OTHER_PICTURES):
        findings.count(
            "picture of a kind that is not read here; convert it to PNG or JPEG", findings.name(root / other)
        )
    return stated, findings


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
        results = pool.map(partial(decode_annotated, root=root, longest_side=longest_side), [file for _, file in order])
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
    said = "".join(f"\n  {line}" for line in findings.messages())
    if empty:
        raise UsageError(
            f"{root}: no usable picture is left for {' and '.join(empty)}, of {findings.pictures} pictures; add some, "
            f"or correct those that were skipped{said}"
        )
    if not any(len(sample.boxes) for sample in splits["train"]):
        raise UsageError(f"{root}: no picture to train on has a box; label some{said}")
    counts = ", ".join(f"{len(splits[split])} {split}" for split in SPLITS)
    classes = ", ".join(files.classes[:MOST_CLASSES]) + (", …" if len(files.classes) > MOST_CLASSES else "")
    headline = f"{files.format} format, {len(files.classes)} classes ({classes}); pictures: {counts}"
    train, validation, test = (tuple(splits[split]) for split in SPLITS)
    notes = (headline, *findings.messages())
    return ObjectDetection(train, validation, test, files.classes, tuple(findings.skipped_rows), notes)


def _record(result: DecodedFile, name: str, findings: Findings) -> None:
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
