"""Keypoints as heat maps: drawing them, and reading a position out of them more finely than their pixels.

Positions are (x, y) in pixels of the heat map; the center of its first pixel is (0, 0). A heat map that is coarser than
the image by a factor `stride` has its centers elsewhere: x of the heat map = (x of the image + 0.5) / stride − 0.5.
"""

import torch


def gaussian_heatmaps(points: torch.Tensor, height: int, width: int, sigma: float) -> torch.Tensor:
    """Draws a Gaussian of height 1 around each point: the target of a heat-map network.

    Args:
        points: positions (x, y), [..., 2]; they need not lie on pixel centers, nor inside the map.
        height: rows of the heat map.
        width: its columns.
        sigma: standard deviation of the Gaussian, in pixels of the heat map.

    Returns:
        Heat maps [..., height, width], the largest value 1 where a point lies on a pixel center.
    """
    columns = torch.arange(width, dtype=points.dtype, device=points.device)
    rows = torch.arange(height, dtype=points.dtype, device=points.device)
    across = torch.exp(-(columns - points[..., 0:1]).square() / (2 * sigma**2))  # [..., width]
    down = torch.exp(-(rows - points[..., 1:2]).square() / (2 * sigma**2))  # [..., height]
    return down[..., :, None] * across[..., None, :]  # a Gaussian is the product of its profiles


def heatmap_argmax(heatmaps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Finds the highest pixel of each heat map.

    Returns:
        Its position (x, y), float [..., 2], and its value, [...].
    """
    values, places = heatmaps.flatten(-2).max(dim=-1)
    width = heatmaps.size(-1)
    points = torch.stack((places % width, places // width), dim=-1)
    return points.to(heatmaps.dtype), values


def soft_argmax(logits: torch.Tensor, beta: float = 1.0) -> torch.Tensor:
    """Computes the mean position under the softmax of the map: integral regression (Sun et al. 2018, equation 2).

    https://arxiv.org/abs/1711.08229. Unlike the argmax it has a gradient, ∂x / ∂z = beta · p · (column − x) for the
    logit z of a pixel with probability p. Mass that is spread over the map draws the mean to the middle of the map.

    Args:
        logits: [..., height, width].
        beta: what the logits are multiplied with; the larger, the closer to the argmax.

    Returns:
        Positions (x, y), [..., 2].
    """
    height, width = logits.shape[-2:]
    probabilities = (beta * logits).flatten(-2).softmax(dim=-1).unflatten(-1, (height, width))
    columns = torch.arange(width, dtype=logits.dtype, device=logits.device)
    rows = torch.arange(height, dtype=logits.dtype, device=logits.device)
    x = (probabilities.sum(dim=-2) * columns).sum(dim=-1)  # the sum over rows leaves the distribution of columns
    y = (probabilities.sum(dim=-1) * rows).sum(dim=-1)
    return torch.stack((x, y), dim=-1)


def _neighborhoods(heatmaps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cuts the 3×3 pixels around the highest pixel of each map.

    Returns:
        Patches [maps, 3, 3]; the highest pixels (x, y), float [maps, 2]; and whether all nine pixels lie in the map,
        bool [maps]. The patch of a pixel at the edge is that of the nearest one inside.
    """
    height, width = heatmaps.shape[-2:]
    if min(height, width) < 3:
        raise ValueError(f"a heat map of {height}×{width} pixels has no pixel with neighbors on all sides")
    maps = heatmaps.flatten(0, -3) if heatmaps.dim() > 2 else heatmaps[None]
    points, _ = heatmap_argmax(maps)
    x, y = points.long().unbind(-1)
    inside = (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
    offsets = torch.arange(-1, 2, device=maps.device)
    rows = y.clamp(1, height - 2)[:, None] + offsets  # [maps, 3]
    columns = x.clamp(1, width - 2)[:, None] + offsets
    which = torch.arange(len(maps), device=maps.device)[:, None, None]
    return maps[which, rows[:, :, None], columns[:, None, :]], points, inside


def quarter_offset(heatmaps: torch.Tensor) -> torch.Tensor:
    """Moves the highest pixel by a quarter of a pixel towards its higher neighbor (Newell et al. 2016).

    https://arxiv.org/abs/1603.06937. Along each axis by itself; at the edge of the map nothing is moved.

    Returns:
        Positions (x, y), [..., 2].

    Raises:
        ValueError: the map has fewer than 3 rows or columns.
    """
    patches, points, inside = _neighborhoods(heatmaps)
    slopes = torch.stack((patches[:, 1, 2] - patches[:, 1, 0], patches[:, 2, 1] - patches[:, 0, 1]), dim=-1)
    moved = points + 0.25 * slopes.sign() * inside[:, None]
    return moved.reshape(*heatmaps.shape[:-2], 2)


def dark_decode(heatmaps: torch.Tensor, eps: float = 1e-10) -> torch.Tensor:
    """Takes one Newton step on the logarithm of the map: distribution-aware decoding (Zhang et al. 2020).

    https://arxiv.org/abs/1910.06278. The logarithm of a Gaussian is a quadratic, whose peak one step finds exactly. The
    paper smooths the map first, since a noisy one is no Gaussian. Where the map has no peak there (the Hessian is not
    negative definite), at the edge of the map, or where the step leaves the pixel's neighborhood, nothing is moved.

    Args:
        heatmaps: [..., height, width]; values below `eps` count as `eps`.
        eps: the least value that the logarithm is taken of.

    Returns:
        Positions (x, y), [..., 2].

    Raises:
        ValueError: the map has fewer than 3 rows or columns.
    """
    patches, points, inside = _neighborhoods(heatmaps)
    log = patches.clamp(min=eps).log()  # [maps, 3, 3], rows first
    middle = log[:, 1, 1]
    slope_x, slope_y = (log[:, 1, 2] - log[:, 1, 0]) / 2, (log[:, 2, 1] - log[:, 0, 1]) / 2
    curve_x = log[:, 1, 2] - 2 * middle + log[:, 1, 0]
    curve_y = log[:, 2, 1] - 2 * middle + log[:, 0, 1]
    mixed = (log[:, 2, 2] - log[:, 2, 0] - log[:, 0, 2] + log[:, 0, 0]) / 4
    determinant = curve_x * curve_y - mixed.square()
    peak = inside & (curve_x < 0) & (determinant > 0)
    divisor = torch.where(peak, determinant, torch.ones_like(determinant))
    # −H⁻¹ · gradient, with the inverse of a 2×2 matrix written out.
    step = torch.stack((mixed * slope_y - curve_y * slope_x, mixed * slope_x - curve_x * slope_y), dim=-1)
    step = step / divisor[:, None]
    peak &= (step.abs() <= 1).all(dim=-1)
    moved = torch.where(peak[:, None], points + step, points)
    return moved.reshape(*heatmaps.shape[:-2], 2)
