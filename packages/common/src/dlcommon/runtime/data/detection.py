"""Defines the type that object detection sets are loaded as: images of any size with boxes around objects."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class AnnotatedImage:
    """Holds one image with the boxes of its objects."""

    name: str
    image: np.ndarray
    """uint8 [height, width, 3]."""
    boxes: np.ndarray
    """float32 [objects, 4]: left, top, right, bottom in pixels; right > left and bottom > top."""
    labels: np.ndarray
    """int64 [objects], an index into the data set's `classes`."""


@dataclass(frozen=True)
class ObjectDetection:
    """Holds images with boxes in memory."""

    train: tuple[AnnotatedImage, ...]
    validation: tuple[AnnotatedImage, ...]
    test: tuple[AnnotatedImage, ...]
    classes: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    """Boxes that cannot be used, such as those without an area: the file, the row and the fault of each."""
    notes: tuple[str, ...] = ()
    """What a reader has to tell its user: format, splits that it drew, how much it skipped and why."""

    def contents(self) -> Iterator[bytes | memoryview]:
        yield repr(self.classes).encode()
        for split in (self.train, self.validation, self.test):
            for sample in split:
                yield f"{sample.name}{sample.image.shape}{sample.boxes.shape}".encode()
                yield sample.image.data.cast("B")
                yield sample.boxes.tobytes()
                yield sample.labels.tobytes()


def annotated_image(name: str, image: np.ndarray, boxes: list[Box], labels: list[int]) -> AnnotatedImage:
    """Joins an image with the boxes and labels of its objects, of which there may be none."""
    shaped = np.array(boxes, np.float32).reshape(-1, 4)  # [objects, 4], also without objects
    return AnnotatedImage(name, image, shaped, np.array(labels, np.int64))


def clip(box: Box, width: float, height: float) -> Box | None:
    """Cuts a box off at the border of an image; returns None if no area is left."""
    left, right = (min(max(edge, 0.0), float(width)) for edge in (box[0], box[2]))
    top, bottom = (min(max(edge, 0.0), float(height)) for edge in (box[1], box[3]))
    return (left, top, right, bottom) if right > left and bottom > top else None
