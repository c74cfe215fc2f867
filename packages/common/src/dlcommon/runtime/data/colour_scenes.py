"""Generates pictures of 32×32 pixels: one of ten things, in front of a landscape, partly hidden.

Colour says nothing about the class, nor does any single pixel: position, size, rotation, colours, background,
distracting shapes, what hides the object and the noise are drawn anew for every picture. So a linear model on
the pixels fails, while a small convolutional network learns it in minutes.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dlcommon.runtime.data.dataset import DataSet, ImageClassification
from dlcommon.runtime.data.decoded_cache import load_decoded
from dlcommon.runtime.data.scene_objects import OBJECTS
from dlcommon.runtime.data.shapes import Points, box, disc
from dlcommon.runtime.localization import LocalizedText

if TYPE_CHECKING:
    from dlcommon.runtime.data.shapes import Field

CLASSES = ("balloon", "boat", "butterfly", "car", "fish", "flower", "house", "mushroom", "rocket", "tree")
TRAIN, TEST = 10_000, 1_000
SIZE = 32
AT_ONCE = 250
"""Pictures drawn together: what their fields need stays in the processor's cache."""


def colours(random: "np.random.Generator", n: int, low: float, high: float) -> "np.ndarray":
    """Returns RGB colours, float32 [n, 1, 1, 3], of random hue and saturation, their value between `low` and `high`."""
    hue, saturation = random.random((n, 1)), random.uniform(0.15, 0.95, (n, 1))
    wheel = np.clip(np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    value = random.uniform(low, high, (n, 1))
    rgb: np.ndarray = (value * (1 - saturation * (1 - wheel))).astype(np.float32)
    return rgb[:, None, None, :]


def between(random: "np.random.Generator", n: int, low: float, high: float) -> "np.ndarray":
    """Draws one number for each picture, float32 [n, 1, 1]."""
    return random.uniform(low, high, (n, 1, 1)).astype(np.float32)


def paint(canvas: "np.ndarray", distance: "Field", colour: "np.ndarray", unit: "np.ndarray | float") -> None:
    """Covers the canvas [n, h, w, 3] where `distance` is negative, with a soft edge one pixel wide.

    `unit` is the length of the distance's unit in pixels.
    """
    cover = np.clip(0.5 - distance * unit, 0, 1)
    canvas += cover[..., None] * (colour - canvas)


def landscape(random: "np.random.Generator", n: int, u: "Field", v: "Field") -> "np.ndarray":
    """Draws sky and ground in two colours each, waves of texture over both: float32 [n, h, w, 3]."""
    horizon = between(random, n, -0.8, 0.5) + between(random, n, -0.3, 0.3) * u
    above, below = colours(random, n, 0.3, 1), colours(random, n, 0.2, 0.9)
    fade = (0.75 + 0.25 * v * between(random, n, -1, 1))[..., None]
    canvas = np.broadcast_to(above * fade, (n, SIZE, SIZE, 3)).copy()
    paint(canvas, v - horizon, below * (1.5 - fade), SIZE / 2)
    for _ in range(2):
        phase = between(random, n, 3, 16) * u + between(random, n, -16, 16) * v + between(random, n, 0, 6.3)
        canvas += (between(random, n, 0, 0.06) * np.sin(phase))[..., None]
    return canvas


def draw(labels: "np.ndarray", random: "np.random.Generator") -> "np.ndarray":
    """Draws one picture for each label, all of the same class: uint8 [n, 32, 32, 3]."""
    n = len(labels)
    grid = ((np.arange(SIZE, dtype=np.float32) + 0.5) / (SIZE / 2) - 1)[None]
    u, v = grid[:, None, :], -grid[:, :, None]
    canvas = landscape(random, n, u, v)

    for _ in range(2):  # things of no meaning, behind the object
        centre = between(random, n, -1, 1), between(random, n, -1, 1)
        radius = between(random, n, -0.2, 0.4)
        round_one, square = disc(Points(u, v), *centre, radius), box(Points(u, v), *centre, radius, radius)
        thing = np.where(random.random((n, 1, 1)) < 0.5, round_one, square)
        paint(canvas, thing, colours(random, n, 0.2, 1), SIZE / 2)

    scale, angle = between(random, n, 0.42, 0.8), between(random, n, -0.6, 0.6)
    stretch, mirror = between(random, n, 0.8, 1.25), random.choice(np.array([-1, 1], np.float32), (n, 1, 1))
    right = u - between(random, n, -0.35, 0.35)
    up = v - between(random, n, -0.35, 0.35)
    turned_u, turned_v = (
        np.cos(angle) * right + np.sin(angle) * up,
        np.cos(angle) * up - np.sin(angle) * right,
    )
    at = Points(turned_u * mirror / (scale * stretch), turned_v / scale)
    palette = (
        colours(random, n, 0.25, 1),
        colours(random, n, 0.25, 1),
        colours(random, n, 0.05, 0.35),
        colours(random, n, 0.75, 1),
    )
    light = (1 + between(random, n, -0.2, 0.2) * (right + up))[..., None]
    extra = between(random, n, 0, 1), between(random, n, 0, 1)
    for distance, colour in OBJECTS[CLASSES[labels[0]]](at, extra):
        paint(canvas, distance, palette[colour] * light, scale * (SIZE / 2))

    # What hides a part: a bar at any angle, or (drawn with a width below zero) nothing.
    tilt = between(random, n, 0, 3.15)
    across = np.cos(tilt) * u + np.sin(tilt) * v - between(random, n, -0.6, 0.6)
    paint(canvas, np.abs(across) - between(random, n, -0.15, 0.17), colours(random, n, 0.2, 1), SIZE / 2)

    contrast = between(random, n, 0.55, 1)[..., None]
    canvas = (canvas - 0.5) * contrast + 0.5 + between(random, n, -0.12, 0.12)[..., None]
    canvas += between(random, n, 0.01, 0.075)[..., None] * random.standard_normal(canvas.shape, np.float32)
    pixels: np.ndarray = (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)
    return pixels


def split(n: int, seed: int) -> tuple["np.ndarray", "np.ndarray"]:
    """Draws n pictures in an order in which class follows class, and returns them with their labels."""
    labels = np.arange(n, dtype=np.int64) % len(CLASSES)
    images = np.empty((n, SIZE, SIZE, 3), np.uint8)

    def fill(task: tuple[int, int]) -> None:
        label, start = task
        rows = np.flatnonzero(labels == label)[start : start + AT_ONCE]
        images[rows] = draw(labels[rows], np.random.default_rng((seed, label, start)))

    tasks = [(label, start) for label in range(len(CLASSES)) for start in range(0, (labels == label).sum(), AT_ONCE)]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        list(pool.map(fill, tasks))
    return images, labels


def generate(train: int = TRAIN, test: int = TEST, seed: int = 0) -> ImageClassification:
    """Draws the data set; the same arguments give the same pictures."""
    return ImageClassification(*split(train, 2 * seed), *split(test, 2 * seed + 1), CLASSES)


CODE = ("colour_scenes.py", "scene_objects.py", "shapes.py")
"""What the pictures depend on: a kept copy is drawn anew when one of these files changes."""


def load(folder: Path) -> ImageClassification:
    return load_decoded(
        "colour-scenes", [Path(__file__).with_name(name) for name in CODE], generate, ImageClassification
    )


DATA_SET = DataSet(
    name="colour-scenes",
    title=LocalizedText("Colour scenes", "彩色场景"),
    description="11,000 generated pictures of 32×32 pixels in ten classes, 10,000 to train and 1,000 to test",
    licence="Apache-2.0 (generated by this project)",
    home="",
    load=load,
    builtin=True,
)
