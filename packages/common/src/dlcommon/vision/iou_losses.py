"""Losses for boxes that fall with their overlap: IoU, GIoU, DIoU and CIoU.

Each takes predicted boxes and their targets, `[..., 4]` corners, and returns one loss for each pair, `[...]`.
"""

import math

import torch

from dlcommon.vision.boxes import box_area, intersection_union

EPS = 1e-7


def iou_loss(predicted: torch.Tensor, target: torch.Tensor, eps: float = EPS) -> torch.Tensor:
    """Computes 1 - IoU, in [0, 1]; its gradient is zero where the boxes do not touch."""
    intersection, union = intersection_union(predicted, target)
    return 1 - intersection / (union + eps)


def enclosing_box(boxes1: torch.Tensor, boxes2: torch.Tensor) -> torch.Tensor:
    """Returns the smallest box around both, `[..., 4]`."""
    top_left = torch.minimum(boxes1[..., :2], boxes2[..., :2])
    bottom_right = torch.maximum(boxes1[..., 2:], boxes2[..., 2:])
    return torch.cat((top_left, bottom_right), dim=-1)


def giou_loss(predicted: torch.Tensor, target: torch.Tensor, eps: float = EPS) -> torch.Tensor:
    """Computes 1 - GIoU, in [0, 2): also penalizes the empty part of the enclosing box (Rezatofighi et al. 2019)."""
    intersection, union = intersection_union(predicted, target)
    enclosing = box_area(enclosing_box(predicted, target))
    return 1 - intersection / (union + eps) + (enclosing - union) / (enclosing + eps)


def diou_loss(predicted: torch.Tensor, target: torch.Tensor, eps: float = EPS) -> torch.Tensor:
    """Computes 1 - DIoU: also penalizes the squared distance of the centers (Zheng et al. 2020).

    The distance is measured in diagonals of the enclosing box, so that the loss does not depend on the scale.
    """
    enclosing = enclosing_box(predicted, target)
    diagonal = (enclosing[..., 2:] - enclosing[..., :2]).square().sum(-1) + eps
    centers = (predicted[..., :2] + predicted[..., 2:] - target[..., :2] - target[..., 2:]) / 2  # [..., 2]
    return iou_loss(predicted, target, eps) + centers.square().sum(-1) / diagonal


def ciou_loss(predicted: torch.Tensor, target: torch.Tensor, eps: float = EPS) -> torch.Tensor:
    """Computes 1 - CIoU: DIoU's loss, and a penalty for another aspect ratio (Zheng et al. 2020).

    The trade-off alpha counts as a constant in the gradient.
    """
    # atan2, not atan of the quotient: a box without height still has a gradient.
    angles = [torch.atan2(_width(boxes), _height(boxes)) for boxes in (target, predicted)]
    aspect = 4 / math.pi**2 * (angles[0] - angles[1]).square()
    with torch.no_grad():
        alpha = aspect / (iou_loss(predicted, target, eps) + aspect + eps)
    return diou_loss(predicted, target, eps) + alpha * aspect


def _width(boxes: torch.Tensor) -> torch.Tensor:
    return boxes[..., 2] - boxes[..., 0]


def _height(boxes: torch.Tensor) -> torch.Tensor:
    return boxes[..., 3] - boxes[..., 1]
