"""Generates pictures of stick figures whose keypoints are known exactly, to fractions of a pixel."""

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class StickFigures:
    """Holds pictures and where their keypoints are."""

    images: torch.Tensor
    """[figures, 1, size, size], about 0 to 1, with noise and two lines that belong to nobody."""
    points: torch.Tensor
    """(x, y) in pixels, the center of the first pixel at (0, 0), [figures, 5, 2]: head, left and right wrist, left and
    right ankle. Left and right are those of the picture, since the figures face away."""
    area: torch.Tensor
    """Of the box around the keypoints, square pixels, [figures]."""


def draw_segments(starts: torch.Tensor, ends: torch.Tensor, size: int, thickness: float) -> torch.Tensor:
    """Draws lines with soft edges.

    Args:
        starts: (x, y), [figures, segments, 2].
        ends: (x, y), [figures, segments, 2].
        size: height and width of the picture.
        thickness: standard deviation of the lines' Gaussian profile, in pixels.

    Returns:
        Pictures [figures, size, size]; 1 on a line.
    """
    axis = torch.arange(size, dtype=starts.dtype)
    pixels = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)  # [size, size, 2], (x, y)
    from_start = pixels - starts[:, :, None, None]  # [figures, segments, size, size, 2]
    line = (ends - starts)[:, :, None, None]
    along = (from_start * line).sum(dim=-1) / line.square().sum(dim=-1).clamp(min=1e-6)
    squared = (from_start - along.clamp(0, 1)[..., None] * line).square().sum(dim=-1)
    return torch.exp(-squared.amin(dim=1) / (2 * thickness**2))  # the nearest segment counts


def generate_stick_figures(count: int, generator: torch.Generator, size: int = 32, noise: float = 0.1) -> StickFigures:
    """Draws figures of random size, place, lean and limbs; always the same ones for a generator of the same state.

    Args:
        count: number of figures.
        generator: the source of all randomness.
        size: height and width of the pictures.
        noise: standard deviation of the pixels' noise.
    """

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    def toward(angle: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        """Returns steps of a length; the angle 0 points down, and grows to the right. [...] to [..., 2]."""
        return torch.stack((angle.sin(), angle.cos()), dim=-1) * length[..., None]

    scale = uniform(0.75, 1.0) * size / 32  # of a figure about 24 pixels high
    middle = torch.stack((uniform(0.4, 0.6), uniform(0.45, 0.55)), dim=-1) * size
    lean = uniform(-0.25, 0.25)
    hip, neck = middle + toward(lean, 3.5 * scale), middle - toward(lean, 3.5 * scale)
    head = neck - toward(lean, 3.0 * scale)
    starts, ends, limbs = [hip, head], [neck, neck], []
    for origin, length, low, high in ((neck, 3.8, 0.4, 2.4), (hip, 4.2, 0.1, 0.9)):
        for side in (-1, 1):
            upper = side * uniform(low, high)
            lower = upper + uniform(-0.7, 0.7)
            joint = origin + toward(upper, length * scale)
            tip = joint + toward(lower, length * scale)
            starts += [origin, joint]
            ends += [joint, tip]
            limbs.append(tip)
    # The head: a closed ring of eight short lines.
    ring = torch.arange(9) * (math.pi / 4)
    around = head[:, None] + toward(ring.expand(count, 9), (1.5 * scale)[:, None].expand(count, 9))
    clutter = uniform(0, size - 1, 2, 2), uniform(0, size - 1, 2, 2)
    images = draw_segments(
        torch.cat((torch.stack(starts, dim=1), around[:, :-1]), dim=1),
        torch.cat((torch.stack(ends, dim=1), around[:, 1:]), dim=1),
        size,
        0.7,
    )
    images = torch.maximum(images, 0.5 * draw_segments(*clutter, size, 0.7))
    images = images + noise * torch.randn(images.shape, generator=generator)
    points = torch.stack((head, *limbs), dim=1)
    area = (points.amax(dim=1) - points.amin(dim=1)).prod(dim=-1)
    return StickFigures(images[:, None], points, area)
