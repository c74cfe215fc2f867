"""Average precision of what was found: by COCO's rule, and by ultralytics', which published figures follow."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from dlcommon.runtime.data.detection import AnnotatedImage
from dlcommon.vision.average_precision import (
    COCO_AREAS,
    ImageOverlaps,
    average_precision,
    box_overlaps,
    match_detections,
    mean_average_precision,
    precision_recall,
)

from yolo_detector.detections import Detections

COCO_MOST = 100
"""Detections of one class in one picture that COCO counts."""
RESAMPLES = 1000


def overlaps_of(found: Sequence[Detections], samples: Sequence[AnnotatedImage]) -> list[ImageOverlaps]:
    """Measures what was found in each picture against its objects."""
    return [
        box_overlaps(one.boxes, one.scores, one.labels, sample.boxes, sample.labels)
        for one, sample in zip(found, samples, strict=True)
    ]


@dataclass(frozen=True)
class Matches:
    """Holds, for one class and IoU threshold, which detections of each picture find an object."""

    scores: list[np.ndarray]
    """Of each picture, best first."""
    correct: list[np.ndarray]
    objects: np.ndarray
    """How many there are to be found in each picture."""

    @classmethod
    def of(
        cls, images: Sequence[ImageOverlaps], label: int, threshold: float = 0.5, most: int = COCO_MOST
    ) -> "Matches":
        """Matches the `most` best detections of each picture."""
        scores, correct, objects = [], [], []
        for image in images:
            rows = np.flatnonzero(image.labels == label)
            rows = rows[np.argsort(-image.scores[rows], kind="stable")][:most]
            there = np.flatnonzero(image.truth_labels == label)
            scores.append(image.scores[rows])
            correct.append(match_detections(image.iou[np.ix_(rows, there)], threshold) >= 0)
            objects.append(len(there))
        return cls(scores, correct, np.array(objects))

    def curve(self, chosen: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns scores, precisions and recalls of the n best detections, of all pictures or of those chosen."""
        pictures = np.arange(len(self.scores)) if chosen is None else chosen
        scores = np.concatenate([self.scores[each] for each in pictures])
        correct = np.concatenate([self.correct[each] for each in pictures])
        precision, recall = precision_recall(scores, correct, max(int(self.objects[pictures].sum()), 1))
        return np.sort(scores)[::-1], precision, recall

    def average_precision(self, chosen: np.ndarray | None = None) -> float:
        """Returns COCO's average precision; NaN where there is no object."""
        pictures = np.arange(len(self.scores)) if chosen is None else chosen
        if not self.objects[pictures].sum():
            return float("nan")
        _, precision, recall = self.curve(chosen)
        return average_precision(precision, recall)


def interval(by_class: Sequence[Matches], seed: int = 0) -> tuple[float, float]:
    """Returns the 95 % interval of the mean average precision, by bootstrap over pictures."""
    random, n = np.random.default_rng(seed), len(by_class[0].scores)
    draws = (random.integers(n, size=n) for _ in range(RESAMPLES))
    values = [mean([each.average_precision(chosen) for each in by_class]) for chosen in draws]
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


def mean(values: Sequence[float]) -> float:
    """Returns the mean of those that are numbers; NaN if none is."""
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else float("nan")


def map50(found: Sequence[Detections], samples: Sequence[AnnotatedImage], classes: int) -> float:
    """Returns COCO's mean average precision at an IoU of 0.5."""
    overlaps = overlaps_of(found, samples)
    return mean([Matches.of(overlaps, label, 0.5).average_precision() for label in range(classes)])


def by_size(images: Sequence[ImageOverlaps], classes: int) -> dict[str, float]:
    """Returns the mean average precision at an IoU of 0.5 of small, medium and large objects, as COCO parts them."""
    return {
        size: mean(mean_average_precision(images, classes, (0.5,), area=area)[0].tolist())
        for size, area in COCO_AREAS.items()
        if size != "all"
    }


def ultralytics_average_precision(matches: Matches) -> float:
    """Returns the average precision of one class as ultralytics' validator computes it, from 300 detections a picture.

    It takes the area under straight lines between 101 points, where COCO takes their mean.
    """
    if not matches.objects.sum():
        return float("nan")
    _, precision, recall = matches.curve()
    reached = np.concatenate(([0.0], recall, recall[-1:] if len(recall) else [1.0], [1.0]))
    heights = np.concatenate(([1.0], precision, [0.0, 0.0]))
    envelope = np.maximum.accumulate(heights[::-1])[::-1]
    points = np.linspace(0, 1, 101)
    return float(np.trapezoid(np.interp(points, reached, envelope), points))
