"""Sliced inference: a large picture is looked at in overlapping tiles besides as a whole, for small objects.

As in SAHI ('Slicing aided hyper inference', Akyon et al. 2022, arXiv:2202.06934).
"""

from dataclasses import dataclass

import numpy as np

from yolo_detector.detections import Detections
from yolo_detector.letterbox import GRAY, resize

OVERLAP = 0.25
"""Share of a tile's side that neighbors have in common: an object up to that size is whole in one of them."""
MOST_TILES = 36
"""Tiles of one picture; a picture that would need more is shrunk until it does not."""
SAME = 0.5
"""IoU from which on boxes of two tiles are one object."""
CONTAINED = 0.5
"""Share of the smaller of two boxes that lies in the other, from which on they are parts of one object."""
SCALES = 0.2
"""IoU that a box of a tile and one of the whole picture have at least if they are one object, seen at two scales."""
MOST_MERGED = 3000
"""Detections that are merged, the surest; and so those of one picture at most."""


@dataclass(frozen=True)
class Tiles:
    """Holds the tiles of one picture, which may have been shrunk before it was cut."""

    images: np.ndarray
    """uint8 [tiles, side, side, 3]; gray beyond the picture."""
    corners: np.ndarray
    """int64 [tiles, 2]: left and top of each, in pixels of the shrunk picture."""
    size: np.ndarray
    """int64 [2]: width and height of the shrunk picture."""


def starts(length: int, side: int) -> list[int]:
    """Returns where tiles begin along one side of a picture, evenly spread, with at least `OVERLAP` in common."""
    if length <= side:
        return [0]
    count = -(-(length - side) // int(side * (1 - OVERLAP))) + 1
    return [round(place) for place in np.linspace(0, length - side, count)]


def tiled_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Returns the size at which a picture is cut: its own, or the largest that needs no more tiles than allowed."""
    scale = 1.0
    while True:
        size = max(round(width * scale), 1), max(round(height * scale), 1)
        if len(starts(size[0], side)) * len(starts(size[1], side)) <= MOST_TILES:
            return size
        scale *= 0.97


def cut(image: np.ndarray, side: int) -> Tiles:
    """Cuts a picture, uint8 [height, width, 3], into tiles; one that is no larger than a tile has none."""
    height, width = image.shape[:2]
    if max(height, width) <= side:
        return no_tiles(side)
    size = tiled_size(width, height, side)
    scaled = resize(image, *size)
    corners = [(left, top) for top in starts(size[1], side) for left in starts(size[0], side)]
    images = np.full((len(corners), side, side, 3), GRAY, np.uint8)
    for tile, (left, top) in zip(images, corners, strict=True):
        part = scaled[top : top + side, left : left + side]
        tile[: part.shape[0], : part.shape[1]] = part
    return Tiles(images, np.array(corners, np.int64), np.array(size, np.int64))


def no_tiles(side: int) -> Tiles:
    """Returns the tiles of a picture that is looked at as a whole only."""
    return Tiles(np.zeros((0, side, side, 3), np.uint8), np.zeros((0, 2), np.int64), np.ones(2, np.int64))


@dataclass(frozen=True)
class Candidates:
    """Holds detections of one picture that may show the same object several times."""

    found: Detections
    cut: np.ndarray
    """bool [candidates]: whether a tile's border cuts the box."""
    source: np.ndarray
    """int64 [candidates]: the tile that it was seen in; -1 for the picture as a whole."""


def candidates(
    whole: Detections, rows: np.ndarray, corners: np.ndarray, side: int, size: np.ndarray, scale: np.ndarray
) -> Candidates:
    """Brings together what was found in a picture and in its tiles.

    Args:
        whole: found in the picture as a whole.
        rows: the model's rows of each tile, float32 [tiles, 300, 6]; score 0 is padding.
        corners: see `Tiles`.
        side: pixels of a tile.
        size: see `Tiles`.
        scale: pixels of the picture for one of the shrunk picture, by width and height, float64 [2].
    """
    tile, row = np.nonzero(rows[..., 4] > 0)
    chosen = rows[tile, row]  # [candidates, 6]
    corner = corners[tile]
    near = max(2.0, side / 100)  # pixels from a border at which a box ends there
    before = (chosen[:, :2] < near) & (corner > 0)
    after = (chosen[:, 2:4] > side - near) & (corner + side < size)
    boxes = np.clip(chosen[:, :4] + np.tile(corner, 2), 0, np.tile(size, 2)) * np.tile(scale, 2)
    return Candidates(
        Detections(
            np.concatenate([whole.boxes, boxes]).astype(np.float32),
            np.concatenate([whole.scores, chosen[:, 4]]),
            np.concatenate([whole.labels, chosen[:, 5].astype(np.int64)]),
        ),
        np.concatenate([np.zeros(len(whole.scores), bool), (before | after).any(1)]),
        np.concatenate([np.full(len(whole.scores), -1), tile]),
    )


def merge(given: Candidates) -> Detections:
    """Keeps one detection of each object.

    Boxes of tiles come first, which are finer, then those of the picture as a whole, then those that a tile's border
    cuts; of each, better ones before worse. A box takes in those of its class from elsewhere that overlap it as one
    object does. Of two from different scales, or where one is cut, it is enough that most of one lies within the other.
    Of pieces alone the box around all is kept. A box that is much less sure than another leaves it alone.

    Returns:
        The detections, best first.
    """
    surest = np.argsort(-given.found.scores, kind="stable")[:MOST_MERGED]
    boxes, scores = given.found.boxes[surest].astype(np.float64), given.found.scores[surest].copy()
    labels, is_cut, source = given.found.labels[surest], given.cut[surest], given.source[surest]
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    left = np.lexsort((-scores, source < 0, is_cut))
    kept = []
    while left.size:
        first, rest = left[0], left[1:]
        corner = np.maximum(boxes[first, :2], boxes[rest, :2])
        shared = np.prod(np.clip(np.minimum(boxes[first, 2:], boxes[rest, 2:]) - corner, 0, None), axis=1)
        iou = shared / np.maximum(areas[first] + areas[rest] - shared, 1e-9)
        within = shared / np.maximum(np.minimum(areas[first], areas[rest]), 1e-9)
        other = (labels[rest] == labels[first]) & (source[rest] != source[first])
        rescaled = ((source[rest] < 0) | (source[first] < 0)) & (iou > SCALES)
        part = (is_cut[rest] | rescaled) & (within > CONTAINED) & (scores[first] > scores[rest] / 2)
        taken = other & ((iou > SAME) | part)
        same = rest[taken]
        if is_cut[first] and same.size:
            boxes[first, :2] = np.minimum(boxes[first, :2], boxes[same, :2].min(0))
            boxes[first, 2:] = np.maximum(boxes[first, 2:], boxes[same, 2:].max(0))
        scores[first] = max(scores[first], scores[same].max(initial=0.0))
        kept.append(first)
        left = rest[~taken]
    order = np.array(kept, np.int64)
    order = order[np.argsort(-scores[order], kind="stable")]
    return Detections(boxes[order].astype(np.float32), scores[order], labels[order])
