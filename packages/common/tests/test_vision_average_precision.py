"""Average precision equals pycocotools', for all areas, and follows VOC's rules."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from dlcommon.vision.average_precision import (
    COCO_AREAS,
    COCO_THRESHOLDS,
    ImageOverlaps,
    average_precision,
    box_overlaps,
    class_average_precision,
    match_detections,
    match_detections_voc,
    mean_average_precision,
    precision_recall,
)
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn.metrics import average_precision_score

CLASSES = 3
Image = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def random_images(seed: int) -> list[Image]:
    """Images with boxes, scores and labels that are found, and boxes and labels that are there."""
    random = np.random.default_rng(seed)
    images = []
    for number in range(12):
        objects = int(random.integers(0, 9)) if number else 0  # the first image is empty
        corner = random.uniform(0, 200, (objects, 2))
        truth = np.concatenate((corner, corner + random.uniform(8, 140, (objects, 2))), 1)
        labels = random.integers(0, CLASSES - 1 if seed == 1 else CLASSES, objects)  # seed 1: a class without objects
        near = random.integers(0, max(objects, 1), 2 * objects)
        found = truth[near] + random.normal(0, 6, (2 * objects, 4)) if objects else np.zeros((0, 4))
        found_labels = np.where(random.random(2 * objects) < 0.85, labels[near] if objects else 0, 1)
        wrong = random.uniform(0, 100, (3, 2))
        found = np.concatenate((found, np.concatenate((wrong, wrong + random.uniform(10, 120, (3, 2))), 1)))
        found_labels = np.concatenate((found_labels, random.integers(0, CLASSES, 3)))
        scores = random.random(len(found)).round(2)  # some are equal
        images.append((found, scores, found_labels, truth, labels))
    return images


def coco_precision(images: list[Image]) -> np.ndarray:
    """Precision [thresholds, 101 recalls, classes, areas] as pycocotools computes it."""
    annotations: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number, (boxes, scores, labels, truth, truth_labels) in enumerate(images, start=1):
        for box, label in zip(truth, truth_labels, strict=True):
            left, top, right, bottom = box
            width, height = right - left, bottom - top
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": int(label), "iscrowd": 0,
                "bbox": [left, top, width, height], "area": width * height,
            })  # fmt: skip
        found += [
            {"image_id": number, "category_id": int(label), "score": score, "bbox": [*box[:2], *(box[2:] - box[:2])]}
            for box, score, label in zip(boxes, scores, labels, strict=True)
        ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": number} for number in range(1, len(images) + 1)],
            "categories": [{"id": label} for label in range(CLASSES)],
            "annotations": annotations,
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    precision: np.ndarray = evaluation.eval["precision"][..., -1]  # at most 100 detections
    return precision


def overlaps(images: list[Image]) -> list[ImageOverlaps]:
    return [box_overlaps(*image) for image in images]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_class_threshold_and_area_equals_pycocotools(seed: int) -> None:
    images = random_images(seed)
    expected = coco_precision(images)
    for place, area in enumerate(COCO_AREAS.values()):
        theirs = expected[..., place]  # [thresholds, 101, classes]; -1 where there is no object
        ours = mean_average_precision(overlaps(images), CLASSES, area=area)
        np.testing.assert_allclose(
            ours, np.where(theirs[:, 0] < 0, np.nan, theirs.mean(1)), rtol=0, atol=1e-12, err_msg=f"area {area}"
        )
    ours = mean_average_precision(overlaps(images), CLASSES)
    assert ours.shape == (len(COCO_THRESHOLDS), CLASSES)
    assert 0.05 < np.nanmean(ours) < np.nanmean(ours[0]) < 0.95
    assert np.isnan(ours).any() == (seed == 1)


def brute_force(precision: np.ndarray, recall: np.ndarray, points: list[float]) -> float:
    """Mean over the points of the best precision at that recall or more, as VOC's report defines it."""
    return sum(max((p for p, r in zip(precision, recall, strict=True) if r >= at), default=0.0) for at in points) / len(
        points
    )


def test_rules_measure_the_area_as_defined() -> None:
    random = np.random.default_rng(3)
    scores, correct = random.random(60), random.random(60) < 0.6
    precision, recall = precision_recall(scores, correct, objects=45)
    assert average_precision(precision, recall, "voc-11") == pytest.approx(
        brute_force(precision, recall, [i / 10 for i in range(11)])
    )
    steps = sorted(set(recall[recall > 0]))
    area = sum((high - low) * max(precision[recall >= high]) for low, high in zip([0.0, *steps], steps, strict=False))
    assert average_precision(precision, recall, "all-points") == pytest.approx(area)
    assert 0.3 < area < recall[-1] < 1


def test_all_points_is_sklearns_average_precision_where_precision_never_rises() -> None:
    scores, correct = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, False])
    precision, recall = precision_recall(scores, correct, 2)
    assert average_precision(precision, recall, "all-points") == average_precision_score(correct, scores)


def test_voc_and_coco_differ_where_the_best_object_is_taken() -> None:
    iou = np.array([[0.9, 0.6], [0.8, 0.7]])  # both detections overlap the first object most
    assert match_detections(iou, 0.5).tolist() == [0, 1]
    assert match_detections_voc(iou, 0.5).tolist() == [0, -1]
    difficult = np.array([True, False])
    assert match_detections_voc(iou, 0.5, difficult).tolist() == [0, 0]
    assert match_detections(iou, 0.5, difficult).tolist() == [1, 0]


def test_nothing_found_and_nothing_there() -> None:
    nothing = np.zeros((0, 4)), np.zeros(0), np.zeros(0, int)
    there = np.array([[0.0, 0.0, 5.0, 5.0]]), np.array([0])
    missed = [box_overlaps(*nothing, *there)]
    for rule in ("voc-11", "all-points", "coco-101"):
        assert class_average_precision(missed, 0, 0.5, rule) == 0  # type: ignore[arg-type]
        assert np.isnan(class_average_precision(missed, 1, 0.5, rule))  # type: ignore[arg-type]
    exact = [box_overlaps(there[0], np.array([0.5]), np.array([0]), *there)]
    assert mean_average_precision(exact, 1).tolist() == [[1.0]] * 10
