"""Defines the ten things that colour scenes show, each a list of parts drawn one over the other.

A part is its signed distance and the number of the colour that it is painted in: 0 and 1 are the object's
two main colours, 2 is dark and 3 is light. `extra` holds two random numbers from 0 to 1 for each picture,
[n, 1, 1], so that no two houses are alike. Objects lie within -1 … 1.
"""

from collections.abc import Callable

import numpy as np

from dlcommon.runtime.data.shapes import (
    Field,
    Points,
    box,
    disc,
    ellipse,
    intersection,
    polygon,
    union,
)

Extra = tuple[np.ndarray, np.ndarray]
Parts = list[tuple[Field, int]]


def house(at: Points, extra: Extra) -> Parts:
    window_v = -0.1 - 0.2 * extra[1]
    return [
        (box(at, 0.5, 0.55, 0.11, 0.3 * extra[0]), 2),
        (box(at, 0, -0.35, 0.68, 0.5), 0),
        (polygon(at, (-0.95, 0.1), (0.95, 0.1), (0, 0.95)), 1),
        (box(at, -0.3, -0.55, 0.16, 0.3), 2),
        (box(at, 0.3, window_v, 0.18, 0.16), 3),
    ]


def tree(at: Points, extra: Extra) -> Parts:
    spread = 0.32 + 0.12 * extra[0]
    crown = union(
        disc(at, -spread, 0.1, 0.42),
        disc(at, spread, 0.1, 0.42),
        disc(at, 0, 0.45, 0.4 + 0.1 * extra[1]),
    )
    return [(box(at, 0, -0.6, 0.13, 0.4), 1), (crown, 0)]


def car(at: Points, extra: Extra) -> Parts:
    wheel = 0.2 + 0.08 * extra[0]
    cabin = polygon(at, (-0.62, 0.1), (0.52, 0.1), (0.3, 0.52), (-0.38, 0.52))
    window = polygon(at, (-0.45, 0.12), (0.36, 0.12), (0.22, 0.4), (-0.3, 0.4))
    return [
        (cabin, 0),
        (window, 3),
        (box(at, 0, -0.12, 0.95, 0.25), 0),
        (box(at, 0, -0.1 + 0.1 * extra[1], 0.95, 0.05), 1),
        (union(disc(at, -0.5, -0.4, wheel), disc(at, 0.52, -0.4, wheel)), 2),
        (union(disc(at, -0.5, -0.4, 0.09), disc(at, 0.52, -0.4, 0.09)), 3),
    ]


def boat(at: Points, extra: Extra) -> Parts:
    return [
        (box(at, 0, 0.1, 0.05, 0.75), 2),
        (polygon(at, (0.1, -0.2), (0.8, -0.2), (0.1, 0.85)), 1),
        (np.maximum(polygon(at, (-0.65, -0.2), (-0.1, -0.2), (-0.1, 0.6)), at.v - 0.2 - 0.5 * extra[0]), 3),
        (polygon(at, (-0.95, -0.3), (-0.6, -0.85), (0.6, -0.85), (0.95, -0.3)), 0),
    ]


def fish(at: Points, extra: Extra) -> Parts:
    body = ellipse(at, 0.15, 0, 0.72, 0.36 + 0.14 * extra[0])
    stripe = intersection(body, box(at, 0.05 + 0.2 * extra[1], 0, 0.09, 1))
    return [
        (polygon(at, (-0.95, -0.5), (-0.4, 0), (-0.95, 0.5)), 1),
        (polygon(at, (-0.15, 0.25), (0.4, 0.25), (-0.05, 0.68)), 1),
        (body, 0),
        (stripe, 1),
        (disc(at, 0.56, 0.1, 0.11), 3),
        (disc(at, 0.58, 0.1, 0.06), 2),
    ]


def flower(at: Points, extra: Extra) -> Parts:
    above = Points(at.u, at.v - np.float32(0.3))
    angle = np.arctan2(above.v, above.u) + 2 * np.pi * extra[0]
    petals = np.sqrt(above.u**2 + above.v**2) - (0.47 + 0.15 * np.cos(5 * angle))
    leaf = ellipse(at, 0.25, -0.62 + 0.15 * extra[1], 0.24, 0.1)
    return [
        (union(box(at, 0, -0.5, 0.06, 0.45), leaf), 2),
        (petals, 0),
        (disc(above, 0, 0, 0.2), 1),
    ]


def mushroom(at: Points, extra: Extra) -> Parts:
    cap = intersection(ellipse(at, 0, 0, 0.88, 0.6 + 0.25 * extra[0]), -at.v)
    spots = union(disc(at, -0.4, 0.25, 0.13), disc(at, 0.38, 0.22, 0.12), disc(at, 0, 0.45, 0.14))
    return [
        (polygon(at, (-0.22, 0.05), (-0.3, -0.85), (0.3, -0.85), (0.22, 0.05)), 3),
        (cap, 0),
        (intersection(spots, cap), 1),
    ]


def balloon(at: Points, extra: Extra) -> Parts:
    envelope = union(disc(at, 0, 0.35, 0.58), polygon(at, (-0.52, 0.1), (-0.12, -0.45), (0.12, -0.45), (0.52, 0.1)))
    gore = intersection(envelope, ellipse(at, 0, 0.3, 0.14 + 0.1 * extra[0], 0.8))
    ropes = union(box(at, -0.1, -0.55, 0.03, 0.15), box(at, 0.1, -0.55, 0.03, 0.15))
    return [(envelope, 0), (gore, 1), (ropes, 2), (box(at, 0, -0.78, 0.17, 0.12 + 0.05 * extra[1]), 2)]


def rocket(at: Points, extra: Extra) -> Parts:
    fins = polygon(at, (-0.62, -0.7), (0.62, -0.7), (0.25, -0.05), (-0.25, -0.05))
    return [
        (fins, 1),
        (union(box(at, 0, -0.1, 0.28, 0.5), ellipse(at, 0, 0.4, 0.28, 0.58)), 0),
        (disc(at, 0, 0.2 + 0.15 * extra[1], 0.15), 3),
        (polygon(at, (0, -0.98), (0.16, -0.62), (-0.16, -0.62)), 3),
    ]


def butterfly(at: Points, extra: Extra) -> Parts:
    folded = Points(np.abs(at.u), at.v)
    upper, lower = ellipse(folded, 0.47, 0.36, 0.46, 0.4), ellipse(folded, 0.36, -0.36, 0.36, 0.38)
    return [
        (union(upper, lower), 0),
        (union(disc(folded, 0.52, 0.38, 0.13 + 0.08 * extra[0]), disc(folded, 0.38, -0.4, 0.12)), 1),
        (ellipse(at, 0, -0.02, 0.1, 0.62), 2),
    ]


OBJECTS: dict[str, Callable[[Points, Extra], Parts]] = {
    function.__name__: function
    for function in (balloon, boat, butterfly, car, fish, flower, house, mushroom, rocket, tree)
}
