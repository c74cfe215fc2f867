"""The metrics and figures of the trained detector."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from dlcommon.runtime.arrays import Predict, metadata_of
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.data.detection import AnnotatedImage
from dlcommon.runtime.evaluation.result import Evaluation
from dlcommon.vision.average_precision import mean_average_precision

from yolo_detector.config import HEADLINE
from yolo_detector.detections import Detections, FittedPictures
from yolo_detector.figures import draw_figures
from yolo_detector.metrics import (
    Matches,
    by_size,
    interval,
    mean,
    overlaps_of,
    ultralytics_average_precision,
)
from yolo_detector.suppression import MOST


def evaluate(predict: Predict, data: LocatedDataSet, figures: Path | None) -> Evaluation:
    loaded = data.load()
    samples, classes = loaded.test, loaded.classes
    pictures = FittedPictures.of(samples, int(metadata_of(predict)["image_size"]))
    outputs = predict(pictures.inputs())
    found = pictures.read(outputs["detections"])
    overlaps = overlaps_of(found, samples)
    matches = [Matches.of(overlaps, label) for label in range(len(classes))]
    table = mean_average_precision(overlaps, len(classes))  # [thresholds, classes]
    all_found = [Matches.of(overlaps, label, most=MOST) for label in range(len(classes))]
    confidence = best_confidence(matches)
    counts, true_counts = counted(found, len(classes), confidence), counted_objects(samples, len(classes))
    metrics = {
        HEADLINE: mean(list(table[0])),
        "map50_95": mean(list(table.ravel())),
        "map50_ultralytics": mean([ultralytics_average_precision(each) for each in all_found]),
        **{f"map50_{size}": value for size, value in by_size(overlaps, len(classes)).items() if value == value},
        "best_confidence": confidence,
        "count_error": float(np.abs(counts - true_counts).mean()),
    }
    by_class = [
        {
            "class": name,
            "objects": int(matches[label].objects.sum()),
            "AP50": float(table[0, label]),
            "AP50-95": mean(list(table[:, label])),
            "counted, of all pictures": int(counts[:, label].sum()),
            "mean error of a picture's count": float(np.abs(counts - true_counts)[:, label].mean()),
        }
        for label, name in enumerate(classes)
        if matches[label].objects.sum()
    ]
    if figures is not None:
        draw_figures(figures, samples, found, classes, matches, confidence)
    return Evaluation(
        len(samples),
        metrics,
        # What is before suppression: two boxes that overlap by the threshold and a rounding may swap after it.
        {"boxes": outputs["boxes"], "scores": outputs["scores"]},
        intervals={HEADLINE: interval(matches)},
        tables={"by_class": by_class},
        shown={"By class": by_class},
    )


def best_confidence(matches: Sequence[Matches]) -> float:
    """Returns the score above which detections are counted: where the mean F1 score of the classes is best."""
    candidates = np.linspace(0.05, 0.95, 91)
    total = np.zeros_like(candidates)
    for each in matches:
        if not each.objects.sum():
            continue
        scores, precision, recall = each.curve()
        counted = np.searchsorted(-scores, -candidates)  # how many detections lie above each candidate
        p, r = np.append(0, precision)[counted], np.append(0, recall)[counted]
        total += 2 * p * r / np.maximum(p + r, 1e-9)
    return round(float(candidates[total.argmax()]), 2)


def counted(found: Sequence[Detections], classes: int, confidence: float) -> np.ndarray:
    """Counts the detections of each class in each picture, int64 [pictures, classes]."""
    return np.array([np.bincount(each.above(confidence).labels, minlength=classes) for each in found])


def counted_objects(samples: Sequence[AnnotatedImage], classes: int) -> np.ndarray:
    """Counts the objects of each class in each picture, int64 [pictures, classes]."""
    return np.array([np.bincount(sample.labels, minlength=classes) for sample in samples])
