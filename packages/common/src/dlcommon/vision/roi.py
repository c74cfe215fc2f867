"""Pools the features of any box to a fixed grid: RoI pooling (Fast R-CNN) and RoI align (Mask R-CNN)."""

from collections.abc import Sequence

import torch


def roi_pool(
    features: torch.Tensor, boxes: Sequence[torch.Tensor], output_size: int, spatial_scale: float
) -> torch.Tensor:
    """Rounds each box to whole cells of the feature map, cuts it into bins and takes the maximum of each.

    Girshick 2015, section 2.1.

    Args:
        features: `[images, channels, height, width]`.
        boxes: one tensor `[boxes, 4]` for each image, in pixels of the image.
        output_size: bins a side.
        spatial_scale: cells of the feature map for each pixel of the image, such as 1/16.

    Returns:
        `[all boxes, channels, output_size, output_size]`; 0 for a bin that lies outside the map.
    """
    height, width = features.shape[2:]
    pooled = []
    for feature_map, image_boxes in zip(features, boxes, strict=True):
        for left, top, right, bottom in _round(image_boxes * spatial_scale).tolist():
            rows, columns = _bins(top, bottom, output_size, height), _bins(left, right, output_size, width)
            bins = [
                feature_map[:, row, column].flatten(1) for row in rows for column in columns
            ]  # each [channels, cells]
            best = [cells.max(1).values if cells.size(1) else cells.sum(1) for cells in bins]
            pooled.append(torch.stack(best, 1).unflatten(1, (output_size, output_size)))
    return torch.stack(pooled) if pooled else features.new_zeros(0, features.size(1), output_size, output_size)


def _round(values: torch.Tensor) -> torch.Tensor:
    """Rounds halves away from zero, as C does; `torch.round` rounds them to even."""
    return (values.sign() * (values.abs() + 0.5).floor()).long()


def _bins(start: int, end: int, count: int, length: int) -> list[slice]:
    """Cuts the cells start … end, both included, into `count` bins, which share a cell where they do not divide."""
    cells = max(end - start + 1, 1)
    edges = [(start + i * cells // count, start - (-(i + 1) * cells // count)) for i in range(count)]
    return [slice(max(low, 0), min(max(high, 0), length)) for low, high in edges]


def roi_align(
    features: torch.Tensor,
    boxes: Sequence[torch.Tensor],
    output_size: int,
    spatial_scale: float,
    sampling_ratio: int = 2,
    aligned: bool = True,
) -> torch.Tensor:
    """Averages the features at points inside each bin, interpolated bilinearly; nothing is rounded.

    He et al. 2017, section 3. The points of a box form a grid, so that interpolation and average are one matrix for the
    rows and one for the columns.

    Args:
        features: `[images, channels, height, width]`.
        boxes: one tensor `[boxes, 4]` for each image, in pixels of the image. No gradient flows to them.
        output_size: bins a side.
        spatial_scale: cells of the feature map for each pixel of the image, such as 1/16.
        sampling_ratio: points a side of a bin; -1 for one for each cell that it spans, rounded up.
        aligned: whether the value of a cell stands at its center (half a cell from its corner).

    Returns:
        `[all boxes, channels, output_size, output_size]`.
    """
    height, width = features.shape[2:]
    pooled = []
    for feature_map, image_boxes in zip(features, boxes, strict=True):
        left, top, right, bottom = (image_boxes.detach() * spatial_scale - (0.5 if aligned else 0.0)).unbind(1)
        least = 0.0 if aligned else 1.0  # without alignment a box is at least one cell wide
        rows = _sampling_weights(top, (bottom - top).clamp(min=least), output_size, sampling_ratio, height)
        columns = _sampling_weights(left, (right - left).clamp(min=least), output_size, sampling_ratio, width)
        pooled.append(torch.einsum("bph,chw,bqw->bcpq", rows, feature_map, columns))
    return torch.cat(pooled)


def _sampling_weights(
    start: torch.Tensor, extent: torch.Tensor, bins: int, sampling_ratio: int, length: int
) -> torch.Tensor:
    """Weights by which the cells along one axis enter each bin, `[boxes, bins, length]`.

    `start` and `extent`, in cells, are those of the boxes, `[boxes]`.
    """
    cells = torch.arange(length, device=start.device)
    points = (extent / bins).ceil() if sampling_ratio < 1 else torch.full_like(start, sampling_ratio)  # [boxes]
    index = torch.arange(
        int(max(points.tolist(), default=0)), device=start.device
    )  # [points], as many as the largest box has
    inside_bin = (index + 0.5) / points[:, None].clamp(min=1)  # [boxes, points], from 0 to 1
    in_bins = torch.arange(bins, device=start.device)[:, None] + inside_bin[:, None]  # [boxes, bins, points]
    positions = start[:, None, None] + in_bins * (extent / bins)[:, None, None]
    used = (index < points[:, None])[:, None] & (positions >= -1) & (positions <= length)
    distance = (positions.clamp(0, length - 1)[..., None] - cells).abs()  # [boxes, bins, points, length]
    weights = (1 - distance).clamp(min=0) * used[..., None]  # linear interpolation: a tent one cell wide on each side
    return weights.sum(2) / points.clamp(min=1)[:, None, None]
