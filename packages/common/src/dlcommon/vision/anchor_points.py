"""Boxes as distances from points: what an anchor-free detector predicts in place of offsets from anchor boxes.

FCOS (Tian et al. 2019, arXiv:1904.01355), equation 1. Each cell of a feature map stands for its center, the anchor
point; a box is its four distances from the point to the left, top, right and bottom edge.
"""

from collections.abc import Sequence

import torch


def make_anchor_points(
    sizes: Sequence[tuple[int, int]], strides: Sequence[int], like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the centers of all cells of several feature maps, and the stride of the map that each belongs to.

    Args:
        sizes: height and width of each feature map, in cells.
        strides: pixels of the image that one cell of each map is wide.
        like: tensor whose device and floating-point type the result takes.

    Returns:
        Points [anchors, 2], x and y in pixels, map after map and row after row; strides [anchors, 1] in pixels.
    """
    points, widths = [], []
    for (height, width), stride in zip(sizes, strides, strict=True):
        x = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) * stride
        y = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) * stride
        points.append(torch.cartesian_prod(y, x).flip(1))  # [height * width, 2], x runs fastest
        widths.append(like.new_full((height * width, 1), stride))
    return torch.cat(points), torch.cat(widths)


def distances_to_boxes(points: torch.Tensor, distances: torch.Tensor) -> torch.Tensor:
    """Returns the boxes [..., 4] whose edges lie at `distances` [..., 4] from `points` [..., 2]."""
    before, after = distances.chunk(2, dim=-1)  # left and top, right and bottom
    return torch.cat((points - before, points + after), dim=-1)


def boxes_to_distances(points: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Returns the distances [..., 4] from `points` [..., 2] to the edges of `boxes` [..., 4].

    They are negative where a point lies outside its box.
    """
    top_left, bottom_right = boxes.chunk(2, dim=-1)
    return torch.cat((points - top_left, bottom_right - points), dim=-1)
