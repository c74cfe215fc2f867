"""Boxes in pixels: conversion, area, and how much two of them overlap.

A box is `(left, top, right, bottom)` with right > left and bottom > top, x to the right and y downwards. Tensors of
boxes are `[..., 4]`.
"""

import torch


def xyxy_to_cxcywh(boxes: torch.Tensor) -> torch.Tensor:
    """Converts corners to `(center x, center y, width, height)`, `[..., 4]`."""
    left, top, right, bottom = boxes.unbind(-1)
    return torch.stack(((left + right) / 2, (top + bottom) / 2, right - left, bottom - top), dim=-1)


def cxcywh_to_xyxy(boxes: torch.Tensor) -> torch.Tensor:
    """Converts `(center x, center y, width, height)` to corners, `[..., 4]`."""
    x, y, width, height = boxes.unbind(-1)
    return torch.stack((x - width / 2, y - height / 2, x + width / 2, y + height / 2), dim=-1)


def box_area(boxes: torch.Tensor) -> torch.Tensor:
    """Returns the areas of boxes `[..., 4]` as `[...]`."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def clip_boxes(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Cuts boxes `[..., 4]` off at the border of an image of height × width pixels."""
    left, top, right, bottom = boxes.unbind(-1)
    x, y = (torch.stack(edges, dim=-1) for edges in ((left, right), (top, bottom)))
    x, y = x.clamp(0, width), y.clamp(0, height)
    return torch.stack((x[..., 0], y[..., 0], x[..., 1], y[..., 1]), dim=-1)


def intersection_union(boxes1: torch.Tensor, boxes2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the areas that pairs of boxes share and that they cover together.

    Args:
        boxes1: `[..., 4]`.
        boxes2: `[..., 4]`, of a shape that broadcasts with it.

    Returns:
        Intersections and unions, each `[...]`.
    """
    top_left = torch.maximum(boxes1[..., :2], boxes2[..., :2])
    bottom_right = torch.minimum(boxes1[..., 2:], boxes2[..., 2:])
    sides = (bottom_right - top_left).clamp(min=0)  # [..., 2]; boxes apart share nothing, not a negative length
    intersection = sides[..., 0] * sides[..., 1]
    return intersection, box_area(boxes1) + box_area(boxes2) - intersection


def box_iou(boxes1: torch.Tensor, boxes2: torch.Tensor) -> torch.Tensor:
    """Computes the intersection over union (Jaccard index) of every pair of boxes.

    Args:
        boxes1: `[n, 4]`.
        boxes2: `[m, 4]`.

    Returns:
        `[n, m]`, from 0 (apart) to 1 (equal).
    """
    intersection, union = intersection_union(boxes1[:, None], boxes2[None])
    return intersection / union
