"""What is found in pictures of any size by a model that sees letterboxes of one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from dlcommon.runtime.arrays import Predict
from dlcommon.runtime.data.detection import AnnotatedImage

from yolo_detector.letterbox import Letterbox, letterbox, padded_size

LEAST_SCORE = 0.001
"""Score from which on detections count in an evaluation: precision at full recall is measured too."""
OVERLAP = 0.7
"""Greatest IoU that two detections of one class may have, as ultralytics sets it."""


@dataclass(frozen=True)
class Detections:
    """Holds what is found in one picture, best first."""

    boxes: np.ndarray
    """float32 [detections, 4]: left, top, right, bottom in pixels of the picture."""
    scores: np.ndarray
    """float32 [detections]."""
    labels: np.ndarray
    """int64 [detections]."""

    def above(self, score: float) -> "Detections":
        """Returns those with a higher score."""
        chosen = self.scores > score
        return Detections(self.boxes[chosen], self.scores[chosen], self.labels[chosen])


def detections_of(rows: np.ndarray, fitted: Letterbox) -> Detections:
    """Reads the model's rows of one picture, float32 [300, 6], without those that are padding."""
    rows = rows[rows[:, 4] > 0]
    return Detections(fitted.restore(rows[:, :4]), rows[:, 4], rows[:, 5].astype(np.int64))


@dataclass(frozen=True)
class FittedPictures:
    """Holds pictures fitted into one size, so that they go through the model together."""

    images: np.ndarray
    """uint8 [pictures, height, width, 3]."""
    fitted: list[Letterbox]

    @classmethod
    def of(cls, samples: Sequence[AnnotatedImage], longest: int) -> "FittedPictures":
        """Fits pictures into the smallest size that takes all of them."""
        sizes = [padded_size(sample.image.shape[1], sample.image.shape[0], longest) for sample in samples]
        size = max(width for width, _ in sizes), max(height for _, height in sizes)
        pairs = [letterbox(sample.image, longest, size) for sample in samples]
        return cls(np.stack([image for image, _ in pairs]), [fitted for _, fitted in pairs])

    def inputs(self) -> dict[str, np.ndarray]:
        """Returns what the model takes, for an evaluation."""
        n = len(self.images)
        return {
            "images": self.images,
            "confidence": np.full(n, LEAST_SCORE, np.float32),
            "iou": np.full(n, OVERLAP, np.float32),
        }

    def read(self, rows: np.ndarray) -> list[Detections]:
        """Reads the model's output `detections`, float32 [pictures, 300, 6]."""
        return [detections_of(each, fitted) for each, fitted in zip(rows, self.fitted, strict=True)]

    def detect(self, predict: Predict) -> list[Detections]:
        """Runs the model over all pictures."""
        return self.read(predict(self.inputs())["detections"])
