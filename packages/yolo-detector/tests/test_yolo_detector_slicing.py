"""Sliced inference: which tiles, and that each object is counted once."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from dlcommon.runtime.data.bccd import CLASSES
from dlcommon.runtime.data.cell_scenes import draw
from dlcommon.runtime.locate_model import packaged_model
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.media import encode_png
from dlcommon.testing.service_answers import batched_answers
from PIL import Image, ImageDraw
from scipy import ndimage
from yolo_detector.capstone import CAPSTONE
from yolo_detector.detections import Detections
from yolo_detector.findings import Findings
from yolo_detector.service import DetectorService
from yolo_detector.slicing import MOST_TILES, OVERLAP, Candidates, cut, merge, starts, tiled_size


class DiscFinder:
    """Stands for a model: finds connected red parts of pictures; the redder, the higher is their score."""

    metadata, labels = {"image_size": "320"}, ["disc"]

    def __call__(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows = np.zeros((len(arrays["images"]), 300, 6), np.float32)
        for image, found, confidence in zip(arrays["images"], rows, arrays["confidence"], strict=True):
            redness = (image[..., 0].astype(np.float32) - image[..., 1]) / 255
            parts, _ = ndimage.label(redness > 0.4)
            best = ndimage.maximum(redness, parts, np.arange(1, parts.max() + 1)) if parts.max() else []
            for place, ((y, x), score) in enumerate(zip(ndimage.find_objects(parts), best, strict=True)):
                if score > confidence:
                    found[place] = (x.start, y.start, x.stop, y.stop, score, 0)
        return {"detections": rows}


def service() -> DetectorService:
    return DetectorService(DiscFinder())  # type: ignore[arg-type]


def answer(service: DetectorService, image: np.ndarray, **fields: Any) -> Findings:
    return batched_answers(service, {"image": encode_png(image), **fields})[0]


def discs(width: int, height: int, radii: tuple[int, int], count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Paints discs apart from each other; returns the picture and their centers, [discs, 2]."""
    random = np.random.default_rng(seed)
    picture = Image.fromarray(np.full((height, width, 3), 220, np.uint8))
    canvas = ImageDraw.Draw(picture)
    centers: list[tuple[float, float]] = []
    while len(centers) < count:
        x, y, radius = *random.uniform((5, 5), (width - 5, height - 5)), random.uniform(*radii)
        if all(np.hypot(x - a, y - b) > 2.3 * radii[1] for a, b in centers):
            canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(255, 0, 0))
            centers.append((x, y))
    return np.array(picture), np.array(centers)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("radii", [(8, 14), (30, 60)], ids=["small", "larger than the overlap"])
def test_each_object_is_counted_once_wherever_tiles_cut_it(radii: tuple[int, int], seed: int) -> None:
    image, centers = discs(960, 720, radii, 30 if radii[0] < 20 else 12, seed)
    found = answer(service(), image, slices=True)
    assert found.counts == {"disc": len(centers)}
    boxes = np.array([(each.box.left, each.box.top, each.box.right, each.box.bottom) for each in found.detections])
    for x, y in centers:
        inside = (boxes[:, 0] - 1 <= x) & (x <= boxes[:, 2] + 1) & (boxes[:, 1] - 1 <= y) & (y <= boxes[:, 3] + 1)
        assert inside.sum() == 1


def test_neighbors_that_are_one_in_the_whole_picture_are_two_in_slices() -> None:
    image = np.full((720, 960, 3), 220, np.uint8)
    for y in range(30, 700, 90):
        for x in range(20, 900, 110):
            image[y : y + 18, x : x + 18] = image[y : y + 18, x + 20 : x + 38] = (255, 0, 0)
    assert answer(service(), image).counts == {"disc": 64}
    assert answer(service(), image, slices=True).counts == {"disc": 128}


def test_an_object_larger_than_a_tile_is_one() -> None:
    image = np.full((900, 900, 3), 220, np.uint8)
    image[100:800, 120:780] = (255, 0, 0)
    found = answer(service(), image, slices=True)
    assert found.counts == {"disc": 1}
    box = found.detections[0].box
    assert (box.left, box.top, box.right, box.bottom) == pytest.approx((120, 100, 780, 800), abs=4)


def test_scores_below_the_confidence_stay_away() -> None:
    image, _ = discs(960, 720, (8, 14), 20, 1)
    image[(image == (255, 0, 0)).all(-1)] = (220, 60, 60)  # redness 0.63
    assert answer(service(), image, slices=True, confidence=0.7).counts == {"disc": 0}
    assert answer(service(), image, slices=True, confidence=0.5).counts == {"disc": 20}


@pytest.mark.parametrize("length", [1, 320, 321, 560, 561, 5_000])
def test_tiles_cover_a_side_and_overlap(length: int) -> None:
    placed = starts(length, 320)
    assert placed[0] == 0
    assert placed[-1] == max(length - 320, 0)
    assert all(after - before <= 320 * (1 - OVERLAP) for before, after in pairwise(placed))


@pytest.mark.parametrize("size", [(960, 720), (5_000, 5_000), (10_000, 1), (1, 10_000), (25_000, 1_000)])
def test_the_number_of_tiles_is_bounded(size: tuple[int, int]) -> None:
    tiles = cut(np.zeros((size[1], size[0], 3), np.uint8), 320)
    assert 0 < len(tiles.images) <= MOST_TILES
    assert tuple(tiles.size) == tiled_size(*size, 320)
    if size == (960, 720):
        assert tuple(tiles.size) == size, "a picture that needs no more is looked at as it is"


def test_a_picture_no_larger_than_a_tile_has_none() -> None:
    assert len(cut(np.zeros((240, 320, 3), np.uint8), 320).images) == 0


def candidates(*rows: tuple[tuple[float, float, float, float], float, int, bool, int]) -> Candidates:
    boxes, scores, labels, is_cut, source = zip(*rows, strict=True)
    found = Detections(np.array(boxes, np.float32), np.array(scores, np.float32), np.array(labels))
    return Candidates(found, np.array(is_cut), np.array(source))


def test_a_whole_box_takes_in_the_pieces_of_its_object() -> None:
    merged = merge(candidates(((0, 0, 40, 40), 0.9, 0, True, 0), ((0, 0, 80, 40), 0.7, 0, False, -1)))
    assert merged.boxes.tolist() == [[0, 0, 80, 40]]
    assert merged.scores == pytest.approx([0.9])


def test_two_pieces_become_the_box_around_both() -> None:
    merged = merge(candidates(((0, 0, 60, 40), 0.9, 0, True, 0), ((20, 0, 80, 40), 0.8, 0, True, 1)))
    assert merged.boxes.tolist() == [[0, 0, 80, 40]]


def test_neighbors_other_classes_and_unsure_boxes_stay() -> None:
    box = (0.0, 0.0, 40.0, 40.0)
    for other in (
        ((38.0, 0.0, 78.0, 40.0), 0.9, 0, True, 1),  # touches it
        (box, 0.9, 1, False, 1),  # another class
        ((0.0, 0.0, 39.0, 20.0), 0.9, 0, False, 0),  # of the same tile, where suppression has had its say
        ((0.0, 0.0, 90.0, 90.0), 0.1, 0, False, -1),  # much less sure, and around it
    ):
        assert len(merge(candidates((box, 0.9, 0, True, 0), other)).scores) == 2, other


def test_no_candidates_are_no_detections() -> None:
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    assert len(merge(Candidates(nothing, np.zeros(0, bool), np.zeros(0, np.int64))).scores) == 0


def test_the_packaged_model_counts_a_large_picture_in_slices_as_its_parts() -> None:
    """Scenes of cells, three by three: where the picture is shrunk to the network's size, cells are too small."""
    model = packaged_model(CAPSTONE)
    if model is None:
        pytest.skip("the package carries no model; make one with `yolo-detector export --pretrained`")
    detector = DetectorService(OnnxModel(model, threads=1))
    scenes = [draw("", np.random.default_rng(number)).image for number in range(9)]
    alone = [answer(detector, scene) for scene in scenes]
    together = np.concatenate([np.concatenate(scenes[row : row + 3], axis=1) for row in (0, 3, 6)])
    whole, sliced = answer(detector, together), answer(detector, together, slices=True)
    expected = sum(each.counts[CLASSES[0]] for each in alone)
    assert abs(sliced.counts[CLASSES[0]] - expected) < abs(whole.counts[CLASSES[0]] - expected)
    assert sliced.counts[CLASSES[0]] == pytest.approx(expected, rel=0.2)
