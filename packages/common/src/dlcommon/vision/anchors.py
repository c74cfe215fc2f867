"""Anchors: boxes of fixed sizes and shapes at every cell of a feature map.

A detector does not predict boxes, but how each anchor must be moved and stretched to become one.
"""

import math
from collections.abc import Sequence

import torch

from dlcommon.vision.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh

BELOW, BETWEEN = -1, -2
"""Instead of an object's index: the anchor is background; it is neither, and takes no part in the loss."""
MAX_LOG_SCALE = math.log(1000 / 16)
"""Largest code of width or height: `exp` of more would overflow early in training."""
UNIT_WEIGHTS = (1.0, 1.0, 1.0, 1.0)


def cell_anchors(sizes: Sequence[float], aspect_ratios: Sequence[float]) -> torch.Tensor:
    """Makes the anchors of one cell around (0, 0), rounded to whole pixels.

    Args:
        sizes: square roots of the areas, in pixels.
        aspect_ratios: height over width.

    Returns:
        `[aspect ratios · sizes, 4]`, the sizes of the first ratio first.
    """
    root = torch.tensor(aspect_ratios).sqrt()[:, None]  # [ratios, 1]
    width, height = torch.tensor(sizes) / root, torch.tensor(sizes) * root  # [ratios, sizes]
    return (torch.stack((-width, -height, width, height), dim=2).flatten(0, 1) / 2).round()


def grid_anchors(cells: torch.Tensor, height: int, width: int, stride: int) -> torch.Tensor:
    """Moves the anchors of one cell `[anchors, 4]` to every cell of a feature map, `stride` pixels apart.

    Returns:
        `[height · width · anchors, 4]`: row by row, and for each cell all its anchors.
    """
    rows, columns = (stride * torch.arange(count, device=cells.device) for count in (height, width))
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    shifts = torch.stack((x, y, x, y), dim=2).reshape(-1, 1, 4)  # [cells, 1, 4]
    return (shifts + cells).reshape(-1, 4)


def match_anchors(iou: torch.Tensor, high: float, low: float, force: bool) -> torch.Tensor:
    """Assigns each anchor the object that it overlaps most, if it does so by enough.

    Args:
        iou: `[objects, anchors]`.
        high: least IoU of an anchor that stands for an object.
        low: below it, an anchor is background.
        force: also assign, however little they overlap, the anchors that overlap an object most of all, so that no
            object is left without one.

    Returns:
        Indices of objects, int64 `[anchors]`; `BELOW` for background, `BETWEEN` for anchors between the thresholds.
    """
    if len(iou) == 0:
        return torch.full((iou.size(1),), BELOW, device=iou.device)
    best, objects = iou.max(dim=0)
    matches = torch.where(best < low, BELOW, torch.where(best < high, BETWEEN, objects))
    if force:
        most = (iou == iou.max(dim=1, keepdim=True).values).any(dim=0)  # [anchors]; ties included
        matches = torch.where(most, objects, matches)
    return matches


def encode_boxes(boxes: torch.Tensor, anchors: torch.Tensor, weights: Sequence[float] = UNIT_WEIGHTS) -> torch.Tensor:
    """Expresses boxes `[n, 4]` relative to their anchors `[n, 4]` (Girshick et al. 2014, appendix C).

    Args:
        boxes: what the anchors are to become.
        anchors: where they start.
        weights: factors of the four codes, which bring them to a similar variance.

    Returns:
        `[n, 4]`: shift of the center in widths and heights of the anchor, and logarithms of the scales.
    """
    target, anchor = xyxy_to_cxcywh(boxes), xyxy_to_cxcywh(anchors)
    shift = (target[:, :2] - anchor[:, :2]) / anchor[:, 2:]
    scale = (target[:, 2:] / anchor[:, 2:]).log()
    return torch.cat((shift, scale), dim=1) * boxes.new_tensor(weights)


def decode_boxes(codes: torch.Tensor, anchors: torch.Tensor, weights: Sequence[float] = UNIT_WEIGHTS) -> torch.Tensor:
    """Inverts `encode_boxes`: moves and stretches anchors `[n, 4]` by codes `[n, 4]`, or `[n, classes, 4]`.

    Returns:
        Boxes of the shape of `codes`. Scales are limited to 62.5 (`MAX_LOG_SCALE`).
    """
    anchor = xyxy_to_cxcywh(anchors)
    anchor = anchor[:, None] if codes.dim() == 3 else anchor
    codes = codes / codes.new_tensor(weights)
    center = codes[..., :2] * anchor[..., 2:] + anchor[..., :2]
    size = codes[..., 2:].clamp(max=MAX_LOG_SCALE).exp() * anchor[..., 2:]
    return cxcywh_to_xyxy(torch.cat((center, size), dim=-1))


def sample_matches(
    matches: torch.Tensor, count: int, positive_fraction: float, generator: torch.Generator | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws a balanced sample, since nearly all anchors are background.

    Args:
        matches: result of `match_anchors`, `[anchors]`.
        count: size of the sample.
        positive_fraction: largest share of anchors that stand for an object.
        generator: random generator.

    Returns:
        Indices of those that stand for an object, and of background; together at most `count`.
    """
    positive, negative = (matches >= 0).nonzero()[:, 0], (matches == BELOW).nonzero()[:, 0]
    positive = positive[torch.randperm(len(positive), generator=generator)][: int(count * positive_fraction)]
    negative = negative[torch.randperm(len(negative), generator=generator)][: count - len(positive)]
    return positive, negative
