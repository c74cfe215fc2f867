"""Draws faces of 64×64 pixels from circles and ellipses: the data set that is always at hand.

Skin, hair, eyes, mouth, brows, background, position and size are drawn anew for every face.
"""

from pathlib import Path

import numpy as np
from dlcommon.runtime.data import DataSet
from dlcommon.runtime.data.colour_scenes import between, colours
from dlcommon.runtime.data.dataset import UnlabelledImages
from dlcommon.runtime.data.decoded_cache import load_decoded
from dlcommon.runtime.data.shapes import Field, Parameter, Points, box, disc, ellipse, intersection, union
from dlcommon.runtime.localization import LocalizedText

TRAIN, TEST = 1_000, 250
SIZE = 64
AT_ONCE = 100
"""Faces drawn together."""
SKINS = np.array([(255, 232, 214), (250, 214, 188), (224, 176, 140), (172, 120, 86), (120, 80, 56)], np.float32) / 255
DARK, LIGHT = 0.12, 0.97


def paint(canvas: np.ndarray, distance: Field, colour: Parameter, unit: Parameter) -> None:
    """Covers the canvas [n, size, size, 3] where `distance` is negative, with a soft edge one pixel wide."""
    canvas += np.clip(0.5 - distance * unit, 0, 1)[..., None] * (colour - canvas)


def draw(n: int, random: np.random.Generator) -> np.ndarray:
    """Draws n faces: uint8 [n, 64, 64, 3]."""
    grid = ((np.arange(SIZE, dtype=np.float32) + 0.5) / (SIZE / 2) - 1)[None]
    scale, tilt = between(random, n, 0.68, 0.9), between(random, n, -0.18, 0.18)
    right, up = grid[:, None, :] - between(random, n, -0.12, 0.12), -grid[:, :, None] - between(random, n, -0.15, 0.05)
    u, v = (np.cos(tilt) * right + np.sin(tilt) * up) / scale, (np.cos(tilt) * up - np.sin(tilt) * right) / scale
    at, unit = Points(u, v), scale * (SIZE / 2)

    fade = (1 + between(random, n, -0.25, 0.25) * up)[..., None]
    canvas = np.broadcast_to(colours(random, n, 0.5, 1) * fade, (n, SIZE, SIZE, 3)).astype(np.float32)
    skin = SKINS[random.integers(len(SKINS), size=n)][:, None, None]
    hair, iris, clothes = (colours(random, n, low, high) for low, high in ((0.15, 1), (0.3, 0.9), (0.2, 0.95)))
    shine = (1 + 0.25 * (v > between(random, n, 0.45, 0.6)) * (v < 0.72))[..., None]

    length = between(random, n, 0.7, 1.5)  # of the hair at the back
    paint(canvas, ellipse(at, 0.0, 0.35 - length / 2, 0.85 + 0 * length, length), hair * 0.8, unit)
    paint(canvas, box(at, 0.0, -1.0, 0.22, 0.4), skin * 0.88, unit)  # neck
    paint(canvas, ellipse(at, 0.0, -1.55, 0.85, 0.55), clothes, unit)
    face = ellipse(at, 0.0, -0.1, between(random, n, 0.6, 0.72), between(random, n, 0.74, 0.84))
    paint(canvas, face, skin, unit)

    apart, height = between(random, n, 0.26, 0.34), between(random, n, -0.28, -0.12)
    wide, tall = between(random, n, 0.13, 0.2), between(random, n, 0.12, 0.26)
    gaze = between(random, n, -0.05, 0.05)
    for side in (-1, 1):
        eye = ellipse(at, side * apart, height, wide, tall)
        paint(canvas, eye - 0.03, DARK, unit)
        paint(canvas, eye, LIGHT, unit)
        inside = ellipse(at, side * apart + gaze, height - 0.02, wide * 0.75, tall * 0.85)
        paint(canvas, intersection(eye, inside), iris, unit)
        paint(canvas, intersection(eye, disc(at, side * apart + gaze, height, tall * 0.4)), DARK, unit)
        paint(canvas, disc(at, side * apart + gaze + 0.05, height + tall * 0.4, tall * 0.25), LIGHT, unit)
        slope = side * between(random, n, -0.2, 0.2)
        brow = Points(u - side * apart, v - height - tall - 0.1 - slope * (u - side * apart))
        paint(canvas, box(brow, 0.0, 0.0, wide, 0.025), hair * 0.6, unit)
        paint(canvas, ellipse(at, side * 0.42, -0.45, 0.12, 0.06), skin * np.array([1, 0.8, 0.8], np.float32), unit)
    smile = between(random, n, -0.5, 1.2)
    mouth = Points(u, v + 0.62 - smile * u**2)
    paint(canvas, ellipse(mouth, 0.0, 0.0, between(random, n, 0.08, 0.2), between(random, n, 0.02, 0.08)), 0.35, unit)
    paint(canvas, disc(at, 0.0, -0.42, 0.025), skin * 0.75, unit)  # nose

    # The fringe: hair above a line that is cut by round gaps, and strands at both sides.
    top = ellipse(at, 0.0, 0.15, 0.8, 0.82)
    part, gap = between(random, n, -0.4, 0.4), between(random, n, 0.25, 0.5)
    fringe = intersection(top, between(random, n, 0.1, 0.35) - v, -disc(at, part, 0.0, gap))
    strands = intersection(top, between(random, n, 0.52, 0.66) - np.abs(u), -0.6 - between(random, n, 0, 0.5) - v)
    paint(canvas, union(fringe, strands), hair * shine, unit)
    canvas += 0.02 * random.standard_normal(canvas.shape, np.float32)
    pixels: np.ndarray = (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)
    return pixels


def split(n: int, seed: int) -> np.ndarray:
    """Draws n faces, always the same for one seed."""
    parts = [draw(min(AT_ONCE, n - start), np.random.default_rng((seed, start))) for start in range(0, n, AT_ONCE)]
    return np.ascontiguousarray(np.concatenate(parts))


def generate(train: int = TRAIN, test: int = TEST, seed: int = 0) -> UnlabelledImages:
    """Draws the data set; the same arguments give the same faces."""
    return UnlabelledImages(split(train, 2 * seed), split(test, 2 * seed + 1))


def load(folder: Path) -> UnlabelledImages:
    return load_decoded("drawn-faces", [Path(__file__)], generate, UnlabelledImages)


DATA_SET = DataSet(
    name="drawn-faces",
    title=LocalizedText("Drawn faces", "画出来的脸"),
    description="1,250 faces of 64×64 pixels drawn by a program, 1,000 to train and 250 to test",
    licence="Apache-2.0 (generated by this project)",
    home="",
    load=load,
    builtin=True,
)
