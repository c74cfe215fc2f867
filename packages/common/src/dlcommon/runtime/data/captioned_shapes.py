"""Draws a coloured shape on a coloured ground, and says so in a caption: pictures whose meaning is known exactly.

A content is (colour, shape, ground), each an index into `COLORS`, `SHAPES` and `COLORS`.
"""

import numpy as np

from dlcommon.runtime.data.shapes import Points, box, disc, polygon, union

COLORS = {
    "red": (0.9, 0.1, 0.1),
    "green": (0.1, 0.65, 0.2),
    "blue": (0.15, 0.25, 0.95),
    "yellow": (1.0, 0.85, 0.1),
    "purple": (0.6, 0.1, 0.7),
    "white": (0.95, 0.95, 0.95),
}
"""RGB, 0 to 1."""
SHAPES = ("circle", "square", "cross", "triangle", "ring")


def all_contents(num_colors: int = len(COLORS), num_shapes: int = len(SHAPES)) -> np.ndarray:
    """Lists the contents of the first colours and shapes whose shape and ground differ in colour: int64 [n, 3]."""
    colors, shapes = range(num_colors), range(num_shapes)
    return np.array([(c, s, g) for c in colors for s in shapes for g in colors if c != g])


def caption(content: np.ndarray, ground_first: bool = False) -> str:
    """Writes "a red circle on blue", or "on blue a red circle"."""
    color, shape, ground = list(COLORS)[content[0]], SHAPES[content[1]], list(COLORS)[content[2]]
    return f"on {ground} a {color} {shape}" if ground_first else f"a {color} {shape} on {ground}"


def draw_captioned_shapes(contents: np.ndarray, places: np.ndarray, size: int) -> np.ndarray:
    """Draws one picture for each content, its edges one pixel soft: float32 [n, 3, size, size], 0 to 1.

    Args:
        contents: int64 [n, 3].
        places: the shape's center (to the right, up) and radius, of a picture that reaches from −1 to 1: [n, 3].
        size: height and width in pixels.
    """
    u, v, r = places.T.astype(np.float32)[:, :, None, None]
    axis = (np.arange(size, dtype=np.float32) + 0.5) / (size / 2) - 1
    at = Points(axis[None, None, :], -axis[None, :, None])
    centered = Points((at.u - u) / r, (at.v - v) / r)
    distances = (
        disc(at, u, v, r),
        box(at, u, v, r, r),
        union(box(at, u, v, r, r / 3), box(at, u, v, r / 3, r)),
        r * polygon(centered, (-1, -0.8), (1, -0.8), (0, 0.9)),
        np.abs(disc(at, u, v, 0.75 * r)) - 0.25 * r,
    )
    distance = np.stack(distances)[contents[:, 1], np.arange(len(contents))]
    cover = np.clip(0.5 - distance * size / 2, 0, 1)[:, None]  # [n, 1, size, size]
    palette = np.array(list(COLORS.values()), np.float32)
    color, ground = (palette[contents[:, column]][:, :, None, None] for column in (0, 2))
    drawn: np.ndarray = ground + cover * (color - ground)
    return drawn
