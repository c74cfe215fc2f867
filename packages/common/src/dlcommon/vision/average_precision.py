"""Average precision of a detector: detections matched to objects, a precision–recall curve, the area under it.

Three rules measure the area. VOC until 2009 took the mean of 11 points, VOC from 2010 all points, COCO 101 points; COCO
then averages over ten IoU thresholds, 0.50 to 0.95. The overlaps come from the caller, so that masks are measured by
the same code as boxes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from dlcommon.vision.boxes import box_iou

COCO_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""IoU thresholds that COCO averages over."""
COCO_AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""COCO's size classes: areas in pixels from … to, both included."""
Rule = Literal["voc-11", "all-points", "coco-101"]


@dataclass(frozen=True)
class ImageOverlaps:
    """Holds what is found and what is there in one image, and how much each of the one overlaps each of the other."""

    scores: np.ndarray
    """`[detections]`."""
    labels: np.ndarray
    """int `[detections]`."""
    truth_labels: np.ndarray
    """int `[objects]`."""
    iou: np.ndarray
    """`[detections, objects]`."""
    areas: np.ndarray
    """Pixels of each detection, `[detections]`."""
    truth_areas: np.ndarray
    """Pixels of each object, `[objects]`."""


def box_overlaps(
    boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, truth_boxes: np.ndarray, truth_labels: np.ndarray
) -> ImageOverlaps:
    """Measures the detected boxes `[detections, 4]` of one image against its objects' boxes `[objects, 4]`."""
    found, there = (torch.as_tensor(each, dtype=torch.float64).reshape(-1, 4) for each in (boxes, truth_boxes))
    areas, truth_areas = (((each[:, 2:] - each[:, :2]).prod(1)).numpy() for each in (found, there))
    iou = box_iou(found, there).numpy()
    return ImageOverlaps(np.asarray(scores), np.asarray(labels), np.asarray(truth_labels), iou, areas, truth_areas)


def match_detections(iou: np.ndarray, threshold: float, ignored: np.ndarray | None = None) -> np.ndarray:
    """Gives each detection, the best score first, the object it overlaps most among those not given away before.

    Args:
        iou: `[detections, objects]`, the detections in order of falling score.
        threshold: the least IoU of a match.
        ignored: bool `[objects]`: objects that are taken only where no other matches.

    Returns:
        The object of each detection, int64 `[detections]`; -1 for none.
    """
    free = np.ones(iou.shape[1], bool)
    second = np.zeros(iou.shape[1], bool) if ignored is None else ignored
    matches = np.full(len(iou), -1)
    for detection, overlaps in enumerate(iou):
        for choice in (free & ~second, free & second):
            candidates = np.flatnonzero(choice & (overlaps >= min(threshold, 1 - 1e-10)))
            if len(candidates):
                last_best = len(candidates) - 1 - overlaps[candidates][::-1].argmax()  # of equals COCO takes the last
                matches[detection] = candidates[last_best]
                free[matches[detection]] = False
                break
    return matches


def match_detections_voc(iou: np.ndarray, threshold: float, ignored: np.ndarray | None = None) -> np.ndarray:
    """Matches by VOC's rule: a detection gets the object that it overlaps most, and is wrong if that one is taken.

    Arguments and result are those of `match_detections`. Any number of detections may match an ignored object.
    """
    free = np.ones(iou.shape[1], bool)
    matches = np.full(len(iou), -1)
    for detection, overlaps in enumerate(iou if iou.shape[1] else ()):
        best = int(overlaps.argmax())
        if free[best] and overlaps[best] >= threshold:
            matches[detection] = best
            free[best] = ignored is not None and ignored[best]
    return matches


def precision_recall(scores: np.ndarray, correct: np.ndarray, objects: int) -> tuple[np.ndarray, np.ndarray]:
    """Computes precision and recall of the n best-scored detections, for n = 1, 2, ….

    Args:
        scores: `[detections]`, of all images together.
        correct: bool `[detections]`: whether the detection was matched.
        objects: how many there are to be found.

    Returns:
        Precisions and recalls, each float64 `[detections]`.
    """
    in_order = correct[np.argsort(-scores, kind="stable")]
    true_positives = np.cumsum(in_order)
    return true_positives / np.arange(1, len(in_order) + 1), true_positives / objects


def average_precision(precision: np.ndarray, recall: np.ndarray, rule: Rule = "coco-101") -> float:
    """Computes the area under the curve, in which each precision is replaced by the best at the same or more recall."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if rule == "all-points":
        return float((np.diff(recall, prepend=0.0) * envelope).sum())
    points = np.linspace(0, 1, 11 if rule == "voc-11" else 101)
    places = np.searchsorted(recall, points)  # the first detection that reaches the recall
    return float(np.append(envelope, 0.0)[places].mean())  # 0 where it is never reached


def class_average_precision(
    images: Sequence[ImageOverlaps],
    label: int,
    threshold: float,
    rule: Rule = "coco-101",
    area: tuple[float, float] = COCO_AREAS["all"],
    max_detections: int = 100,
) -> float:
    """Computes the average precision of one class at one IoU threshold.

    Detections are matched as the rule's authors do it: COCO by `match_detections`, VOC by `match_detections_voc`.

    Objects outside the range of areas are ignored: finding one is neither right nor wrong. So are unmatched detections
    of such an area.

    Returns:
        The average precision; NaN where there is no object of the class.
    """
    match = match_detections if rule == "coco-101" else match_detections_voc
    all_scores, all_correct, objects = [np.zeros(0)], [np.zeros(0, bool)], 0
    for image in images:
        found = np.flatnonzero(image.labels == label)
        found = found[np.argsort(-image.scores[found], kind="stable")][:max_detections]
        there = np.flatnonzero(image.truth_labels == label)
        outside, ignored = (
            (areas < area[0]) | (areas > area[1]) for areas in (image.areas[found], image.truth_areas[there])
        )
        matches = match(image.iou[np.ix_(found, there)], threshold, ignored)
        matched = matches >= 0
        dropped = np.where(matched, np.append(ignored, False)[matches], outside)  # index -1 is the appended one
        all_scores.append(image.scores[found][~dropped])
        all_correct.append(matched[~dropped])
        objects += int((~ignored).sum())
    if objects == 0:
        return float("nan")
    return average_precision(*precision_recall(np.concatenate(all_scores), np.concatenate(all_correct), objects), rule)


def mean_average_precision(
    images: Sequence[ImageOverlaps],
    classes: int,
    thresholds: Sequence[float] = COCO_THRESHOLDS,
    rule: Rule = "coco-101",
    area: tuple[float, float] = COCO_AREAS["all"],
) -> np.ndarray:
    """Computes the average precision of each class at each threshold, float64 `[thresholds, classes]`.

    `np.nanmean` of all is COCO's mAP, of the first row its mAP50. NaN for a class without objects.
    """
    return np.array(
        [
            [class_average_precision(images, label, threshold, rule, area) for label in range(classes)]
            for threshold in thresholds
        ]
    )
