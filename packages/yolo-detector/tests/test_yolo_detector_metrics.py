"""Average precision against pycocotools and ultralytics' validator on the same boxes."""

import contextlib
import io

import numpy as np
import pytest
import torch
from dlcommon.runtime.data.detection import AnnotatedImage
from dlcommon.vision.average_precision import mean_average_precision
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from yolo_detector.detections import Detections
from yolo_detector.evaluate import best_confidence
from yolo_detector.metrics import (
    Matches,
    by_size,
    interval,
    map50,
    mean,
    overlaps_of,
    ultralytics_average_precision,
)
from yolo_detector.ultralytics_network import quiet_ultralytics

CLASSES = 3


def random_case(seed: int, pictures: int = 12) -> tuple[list[Detections], list[AnnotatedImage]]:
    """Draws objects, and detections that are near them, twice there, elsewhere, or of another class."""
    random = np.random.default_rng(seed)
    found, samples = [], []
    for number in range(pictures):
        n = int(random.integers(0, 9))
        corner, size = random.uniform(0, 400, (n, 2)), random.uniform(20, 150, (n, 2))
        boxes = np.concatenate([corner, corner + size], 1).astype(np.float32)
        labels = random.integers(0, CLASSES, n)
        samples.append(AnnotatedImage(str(number), np.zeros((600, 600, 3), np.uint8), boxes, labels))
        near = np.concatenate([boxes, boxes]) + random.uniform(-9, 9, (2 * n, 4))
        stray = random.uniform(0, 300, (4, 2))
        all_boxes = np.concatenate([near, np.concatenate([stray, stray + 60], 1)]).astype(np.float32)
        all_labels = np.concatenate([labels, labels, random.integers(0, CLASSES, 4)])
        scores = random.random(len(all_boxes)).astype(np.float32)
        order = np.argsort(-scores)
        found.append(Detections(all_boxes[order], scores[order], all_labels[order]))
    return found, samples


def pycocotools_precision(found: list[Detections], samples: list[AnnotatedImage]) -> np.ndarray:
    """Returns COCO's precision, [thresholds, 101, classes, areas]; -1 where there is no object."""
    annotations: list[dict[str, object]] = []
    results: list[dict[str, object]] = []
    for number, (one, sample) in enumerate(zip(found, samples, strict=True), start=1):
        for box, label in zip(sample.boxes.astype(float), sample.labels, strict=True):
            size = box[2:] - box[:2]
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": int(label), "iscrowd": 0,
                "bbox": [*box[:2], *size], "area": float(size.prod()),
            })  # fmt: skip
        for box, score, label in zip(one.boxes.astype(float), one.scores, one.labels, strict=True):
            bbox = [*box[:2], *(box[2:] - box[:2])]
            results.append({"image_id": number, "category_id": int(label), "score": float(score), "bbox": bbox})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": number} for number in range(1, len(samples) + 1)],
            "categories": [{"id": label} for label in range(CLASSES)],
            "annotations": annotations,
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    precision: np.ndarray = evaluation.eval["precision"][..., -1]
    return precision


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_figures_equal_pycocotools(seed: int) -> None:
    found, samples = random_case(seed)
    theirs = pycocotools_precision(found, samples)
    overlaps = overlaps_of(found, samples)
    np.testing.assert_allclose(mean_average_precision(overlaps, CLASSES), theirs[..., 0].mean(1), atol=1e-12)
    assert map50(found, samples, CLASSES) == pytest.approx(theirs[0, :, :, 0].mean())
    for place, (size, value) in enumerate(by_size(overlaps, CLASSES).items(), start=1):
        of_size = theirs[0, :, :, place]
        known = of_size[:, of_size[0] >= 0]
        assert value == pytest.approx(known.mean() if known.size else float("nan"), nan_ok=True), size


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_figures_equal_ultralytics_validator(seed: int) -> None:
    with quiet_ultralytics():
        from ultralytics.engine.validator import BaseValidator
        from ultralytics.utils.metrics import ap_per_class, box_iou
    found, samples = random_case(seed)
    validator = BaseValidator.__new__(BaseValidator)
    validator.iouv = torch.linspace(0.5, 0.95, 10)
    hits, scores, labels, truth = [], [], [], []
    for one, sample in zip(found, samples, strict=True):
        iou = box_iou(torch.from_numpy(sample.boxes), torch.from_numpy(one.boxes))
        predicted, true = torch.from_numpy(one.labels), torch.from_numpy(sample.labels)
        hits.append(validator.match_predictions(predicted, true, iou).numpy())
        scores.append(one.scores)
        labels.append(one.labels)
        truth.append(sample.labels)
    theirs = ap_per_class(*map(np.concatenate, (hits, scores, labels, truth)))[5]  # [classes, thresholds]
    overlaps = overlaps_of(found, samples)
    for column, threshold in enumerate(np.linspace(0.5, 0.95, 10)):
        matches = [Matches.of(overlaps, label, threshold, most=300) for label in range(CLASSES)]
        ours = [ultralytics_average_precision(each) for each in matches]
        np.testing.assert_allclose(ours, theirs[:, column], atol=1e-6)


def test_the_interval_holds_the_figure_and_narrows_with_more_pictures() -> None:
    widths = []
    for pictures in (10, 80):
        found, samples = random_case(0, pictures)
        overlaps = overlaps_of(found, samples)
        matches = [Matches.of(overlaps, label) for label in range(CLASSES)]
        low, high = interval(matches)
        assert low < mean([each.average_precision() for each in matches]) < high
        widths.append(high - low)
    assert widths[1] < widths[0]


def test_the_best_confidence_parts_right_from_wrong() -> None:
    right = np.array([0.9, 0.8, 0.3, 0.2])
    matches = Matches([right], [np.array([True, True, False, False])], np.array([2]))
    assert 0.3 <= best_confidence([matches]) < 0.8


def test_nothing_found_and_nothing_there() -> None:
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    there = AnnotatedImage("a", np.zeros((9, 9, 3), np.uint8), np.array([[0, 0, 5, 5]], np.float32), np.array([0]))
    empty = AnnotatedImage("b", np.zeros((9, 9, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    assert map50([nothing], [there], 1) == 0
    assert np.isnan(map50([nothing], [empty], 1))
