"""Defines the type that object detection sets are loaded as: images of any size with boxes around objects."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class AnnotatedImage:
    """Holds one image with the boxes of its objects."""

    name: str
    image: "np.ndarray"
    """uint8 [height, width, 3]."""
    boxes: "np.ndarray"
    """float32 [objects, 4]: left, top, right, bottom in pixels; right > left and bottom > top."""
    labels: "np.ndarray"
    """int64 [objects], an index into the data set's `classes`."""


@dataclass(frozen=True)
class ObjectDetection:
    """Holds images with boxes in memory."""

    train: tuple[AnnotatedImage, ...]
    validation: tuple[AnnotatedImage, ...]
    test: tuple[AnnotatedImage, ...]
    classes: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    """Boxes without an area, which no detector can learn from: the file, the row and the box of each."""

    def contents(self) -> Iterator[bytes | memoryview]:
        yield repr(self.classes).encode()
        for split in (self.train, self.validation, self.test):
            for sample in split:
                yield f"{sample.name}{sample.image.shape}{sample.boxes.shape}".encode()
                yield sample.image.data.cast("B")
                yield sample.boxes.tobytes()
                yield sample.labels.tobytes()
