"""What is answered about a picture: its objects with boxes, how many there are of each class, and both as files."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from dlcommon.runtime.serving.media import PngBytes
from dlcommon.runtime.serving.service import Answer
from pydantic import Field

from yolo_detector.classes import CHINESE
from yolo_detector.detections import Detections
from yolo_detector.drawing import Labeled, annotated


class Box(Answer):
    """A rectangle in pixels of the picture, which is upright as its EXIF orientation says."""

    left: float
    top: float
    right: float
    bottom: float


class Found(Answer):
    """One object."""

    label: str
    label_zh: str | None = Field(description="The class in Chinese, where it is known.")
    score: float
    box: Box


class Findings(Answer):
    """The objects, surest first, and how many there are of each class."""

    detections: list[Found]
    counts: dict[str, int]
    width: int
    height: int
    tiles: int = Field(description="In how many tiles the picture was looked at, besides as a whole.")
    time: float | None = Field(description="Of a frame: seconds from the start of its video, as the item said.")
    annotated_picture: PngBytes | None = Field(description="The picture with boxes, where the item asks for it.")

    @classmethod
    def of(
        cls, found: Detections, names: Sequence[str], size: tuple[int, int], tiles: int, time: float | None
    ) -> "Findings":
        """Makes the answer from what the model found in a picture of this width and height."""
        labels = [names[label] if label < len(names) else str(label) for label in found.labels.tolist()]
        counted = Counter(labels)
        detections = [
            Found(
                label=label,
                label_zh=CHINESE.get(label),
                score=round(score, 4),
                box=Box(left=left, top=top, right=right, bottom=bottom),
            )
            for label, score, (left, top, right, bottom) in zip(
                labels, found.scores.tolist(), found.boxes.astype(float).round(2).tolist(), strict=True
            )
        ]
        return cls(
            detections=detections,
            counts={name: counted[name] for name in names},
            width=size[0],
            height=size[1],
            tiles=tiles,
            time=time,
            annotated_picture=None,
        )

    def above(self, confidence: float) -> "Findings":
        """Returns what is left with a higher confidence."""
        kept = [each for each in self.detections if each.score > confidence]
        counted = Counter(each.label for each in kept)
        counts = {label: counted[label] for label in self.counts}
        return self.model_copy(update={"detections": kept, "counts": counts})

    def drawn_on(self, image: np.ndarray) -> np.ndarray:
        """Returns a copy of the picture, uint8 [height, width, 3], with boxes, names and scores."""
        objects = [
            Labeled(each.label, each.score, (each.box.left, each.box.top, each.box.right, each.box.bottom))
            for each in self.detections
        ]
        return annotated(image, objects, list(self.counts))

    def yolo_rows(self) -> str:
        """Returns the lines of a YOLO label file: class, center and size of each box, as shares of the picture."""
        names, rows = list(self.counts), []
        for each in self.detections:
            box = each.box
            x, y = (box.left + box.right) / 2 / self.width, (box.top + box.bottom) / 2 / self.height
            wide, high = (box.right - box.left) / self.width, (box.bottom - box.top) / self.height
            rows.append(f"{names.index(each.label)} {x:.6f} {y:.6f} {wide:.6f} {high:.6f}\n")
        return "".join(rows)
