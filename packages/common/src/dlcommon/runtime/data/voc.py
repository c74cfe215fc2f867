"""Reads object detection sets in the layout of PASCAL VOC (Everingham et al. 2010).

`ImageSets/Main/{train,val,test}.txt` name the images of each split, `JPEGImages/NAME.jpg` holds an image and
`Annotations/NAME.xml` its objects.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from dlcommon.runtime.data.annotated_pictures import SPLITS, Split
from dlcommon.runtime.data.dataset import DamagedDataError
from dlcommon.runtime.data.detection import AnnotatedImage, Box, ObjectDetection, annotated_image, clip
from dlcommon.runtime.data.image_decoding import decode_image_file
from dlcommon.runtime.data.text_corpus import read_text

FILES = (
    *(f"ImageSets/Main/{split}.txt" for split in SPLITS),
    "Annotations/*.xml",
    "JPEGImages/*.jpg",
)
"""What a data set in this layout consists of, for `DataSet.files`."""

EDGES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Annotation:
    """Holds the objects of one image, as its XML file states them."""

    width: int
    height: int
    boxes: list[Box]
    """Left, top, right, bottom in pixels, cut off at the border of the image."""
    labels: list[int]
    skipped: list[str]
    """The file, the row and the box of each object whose box has no area."""


def read_annotation(path: Path, classes: tuple[str, ...]) -> Annotation:
    """Reads the objects of one image; rows are counted from 0.

    Raises:
        DamagedDataError: the file is not such XML, has an unknown class, or a size or box that is not a number.
    """
    root = parse_xml(path)
    width, height = read_size(root, path)
    annotation = Annotation(width, height, [], [], [])
    for row, element in enumerate(root.findall("object")):
        name = read_class(element)
        if name not in classes:
            raise DamagedDataError(path, f"the class is {name!r}, not one of {', '.join(classes)}", row)
        stated = read_edges(element, path, row)
        box = clip(stated, width, height)
        if box is not None:
            annotation.boxes.append(box)
            annotation.labels.append(classes.index(name))
        else:
            edges = ", ".join(f"{edge:g}" for edge in stated)
            annotation.skipped.append(f"{path}, row {row}: the box ({edges}) has no area inside the image")
    return annotation


def parse_xml(path: Path) -> ElementTree.Element:
    """Parses an annotation file.

    Raises:
        DamagedDataError: it cannot be read as XML.
    """
    try:
        return ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError, LookupError, ValueError) as error:  # the last two: an unknown encoding
        raise DamagedDataError(path, f"cannot be read as XML ({error})") from error


def read_size(root: ElementTree.Element, path: Path) -> tuple[int, int]:
    """Returns the width and height that an annotation file states.

    Raises:
        DamagedDataError: it states none, or not in whole pixels.
    """
    width, height = (_whole_number(root, f"size/{name}", path) for name in ("width", "height"))
    return width, height


def read_class(element: ElementTree.Element) -> str:
    """Returns the name of an object's class; empty where it has none."""
    return (element.findtext("name") or "").strip()


def read_edges(element: ElementTree.Element, path: Path, row: int) -> Box:
    """Returns left, top, right and bottom of an object in pixels.

    Raises:
        DamagedDataError: one is not stated, or not a number.
    """
    left, top, right, bottom = (_number(element, f"bndbox/{edge}", path, row) for edge in EDGES)
    return left, top, right, bottom


def _whole_number(element: ElementTree.Element, tag: str, path: Path) -> int:
    value = _number(element, tag, path, None)
    if value < 1 or not value.is_integer():
        raise DamagedDataError(path, f"{tag} is {value:g}, not a number of pixels")
    return int(value)


def _number(element: ElementTree.Element, tag: str, path: Path, row: int | None) -> float:
    text = element.findtext(tag)
    if text is None:
        raise DamagedDataError(path, f"has no {tag}", row)
    try:
        value = float(text)
    except ValueError:
        raise DamagedDataError(path, f"{tag} is {text!r}, not a number", row) from None
    if not abs(value) < 1e9:  # also false for nan
        raise DamagedDataError(path, f"{tag} is {text!r}, not a number of pixels", row)
    return value


def split_list(folder: Path, split: Split) -> Path:
    """Returns the path of the list of a split's images."""
    return folder / "ImageSets" / "Main" / f"{split}.txt"


def read_splits(folder: Path, splits: Iterable[Split] = SPLITS) -> dict[Split, list[str]]:
    """Reads which images belong to each split.

    Raises:
        DamagedDataError: a list is empty or no text, or names an image that is named before.
    """
    names: dict[Split, list[str]] = {}
    seen: dict[str, str] = {}
    for split in splits:
        path = split_list(folder, split)
        names[split] = []
        for line, text in enumerate(read_text(path).split("\n"), start=1):
            name = text.strip()
            if not name:
                continue
            if name in seen:  # in two splits, a model would be tested on what it was trained on
                raise DamagedDataError(path, f"line {line}: {name} stands in {seen[name]} already")
            if Path(name).name != name:
                raise DamagedDataError(path, f"line {line}: {name!r} is not the name of an image")
            seen[name] = path.name
            names[split].append(name)
    return names


def count_skipped(folder: Path, classes: tuple[str, ...]) -> int:
    """Counts the boxes that `read_voc` skips, without decoding an image."""
    return sum(len(annotation.skipped) for annotation in _annotations(folder, _all_names(folder), classes))


def _all_names(folder: Path) -> list[str]:
    return [name for names in read_splits(folder).values() for name in names]


def _annotations(folder: Path, names: Iterable[str], classes: tuple[str, ...]) -> Iterable[Annotation]:
    return (read_annotation(folder / "Annotations" / f"{name}.xml", classes) for name in names)


def read_voc(folder: Path, classes: tuple[str, ...]) -> ObjectDetection:
    """Reads and decodes all images that the splits name.

    A box that reaches beyond the image is cut off at its border. One without an area is skipped, and named in
    `skipped`.

    Raises:
        DamagedDataError: a file is missing or damaged, or an image and its annotation disagree.
    """
    splits = read_splits(folder)
    names = [name for split in splits.values() for name in split]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        images = list(pool.map(lambda name: _read_image(folder / "JPEGImages" / f"{name}.jpg"), names))
    samples: dict[str, AnnotatedImage] = {}
    skipped: list[str] = []
    for name, image, annotation in zip(names, images, _annotations(folder, names, classes), strict=True):
        if image.shape[:2] != (annotation.height, annotation.width):
            stated, found = f"{annotation.width}×{annotation.height}", f"{image.shape[1]}×{image.shape[0]}"
            path = folder / "Annotations" / f"{name}.xml"
            raise DamagedDataError(path, f"states {stated} pixels, but the image has {found}")
        samples[name] = annotated_image(name, image, annotation.boxes, annotation.labels)
        skipped += annotation.skipped
    train, validation, test = (tuple(samples[name] for name in splits[split]) for split in SPLITS)
    return ObjectDetection(train, validation, test, classes, tuple(skipped))


def _read_image(path: Path) -> "np.ndarray":
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedDataError(path, f"cannot be read ({error.strerror})") from error
    return decode_image_file(content, path)[0]
