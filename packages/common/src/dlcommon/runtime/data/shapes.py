"""Draws shapes as signed distance functions over a batch of pictures: negative inside, in the object's unit.

Legend: n pictures, h and w pixels. `Points` are the coordinates u (to the right) and v (up) of every pixel in
the object's own frame, each [n, h, w]. A parameter is a number, or one for each picture: [n, 1, 1].
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Field: TypeAlias = np.ndarray
"""float32 [n, h, w]."""
Parameter: TypeAlias = float | np.ndarray


@dataclass(frozen=True)
class Points:
    u: Field
    v: Field


def disc(at: Points, u: Parameter, v: Parameter, radius: Parameter) -> Field:
    return np.sqrt((at.u - u) ** 2 + (at.v - v) ** 2) - radius


def ellipse(at: Points, u: Parameter, v: Parameter, half_width: Parameter, half_height: Parameter) -> Field:
    """Returns distances that are exact on the outline and approximate away from it."""
    scaled = np.sqrt(((at.u - u) / half_width) ** 2 + ((at.v - v) / half_height) ** 2)
    return (scaled - 1) * np.minimum(half_width, half_height)


def box(at: Points, u: Parameter, v: Parameter, half_width: Parameter, half_height: Parameter) -> Field:
    return np.maximum(np.abs(at.u - u) - half_width, np.abs(at.v - v) - half_height)


def polygon(at: Points, *corners: tuple[float, float]) -> Field:
    """Returns distances from a convex polygon, its corners counter-clockwise."""
    edges = zip(corners, (*corners[1:], corners[0]), strict=True)
    distance: Field | None = None
    for (u0, v0), (u1, v1) in edges:
        length = float(np.hypot(u1 - u0, v1 - v0))
        outward = ((v1 - v0) / length, (u0 - u1) / length)
        side = (at.u - u0) * np.float32(outward[0]) + (at.v - v0) * np.float32(outward[1])
        distance = side if distance is None else np.maximum(distance, side)
    if distance is None:
        raise ValueError("a polygon needs corners")
    return distance


def union(*fields: Field) -> Field:
    combined: Field = np.minimum.reduce(fields)
    return combined


def intersection(*fields: Field) -> Field:
    combined: Field = np.maximum.reduce(fields)
    return combined
