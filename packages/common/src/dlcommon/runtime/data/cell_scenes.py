"""Generates pictures that look like blood under a microscope, with a box around every cell.

They have BCCD's three kinds: pale red discs with a lighter center, larger ones with a dark violet nucleus of lobes, and
small violet specks. Size, shape, color, light and noise are drawn anew for every picture; cells may overlap a little.
"""

from pathlib import Path

import numpy as np

from dlcommon.runtime.data.bccd import CLASSES
from dlcommon.runtime.data.dataset import DataSet
from dlcommon.runtime.data.detection import AnnotatedImage, ObjectDetection
from dlcommon.runtime.localization import LocalizedText

TRAIN, VALIDATION, TEST = 120, 20, 60
HEIGHT, WIDTH = 240, 320
RADII = ((20, 27), (34, 46), (6, 10))
"""Least and greatest radius of each kind in pixels."""
RED, WHITE, PLATELET = range(3)


def draw_cell(canvas: np.ndarray, kind: int, x: float, y: float, random: np.random.Generator) -> np.ndarray:
    """Draws a cell around (x, y) onto the canvas, float32 [height, width, 3], and returns its box, [4]."""
    radius = random.uniform(*RADII[kind])
    stretch, turn, waves = random.uniform(0.88, 1.12), random.uniform(0, np.pi), random.uniform(0, 2 * np.pi, 2)
    reach = int(1.4 * radius) + 2  # only this part of the picture changes
    rows = slice(max(int(y) - reach, 0), min(int(y) + reach, HEIGHT))
    columns = slice(max(int(x) - reach, 0), min(int(x) + reach, WIDTH))
    v, u = np.mgrid[rows, columns] - np.array([y, x]).reshape(2, 1, 1)
    along, across = np.cos(turn) * u + np.sin(turn) * v, np.cos(turn) * v - np.sin(turn) * u
    angle = np.arctan2(across, along)
    outline = 1 + 0.04 * np.sin(2 * angle + waves[0]) + 0.03 * np.sin(3 * angle + waves[1])
    distance = np.hypot(along / stretch, across * stretch) / (radius * outline)  # 1 on the outline
    cover = np.clip((1 - distance) * radius + 0.5, 0, 1)  # an edge one pixel wide
    part = canvas[rows, columns]
    if kind == RED:
        color = np.array([0.85, 0.62, 0.6]) + random.normal(0, 0.025, 3)
        pale = (0.14 * np.exp(-((distance / 0.45) ** 2)))[..., None]
        part += (0.8 * cover)[..., None] * (color + pale - part)
    elif kind == WHITE:
        part += (0.7 * cover)[..., None] * (np.array([0.8, 0.68, 0.8]) - part)
        for lobe in random.uniform(-0.4, 0.4, (3, 2)) * radius:
            inside = np.hypot(u - lobe[0], v - lobe[1]) < random.uniform(0.35, 0.5) * radius
            part[inside & (cover > 0.5)] = np.array([0.42, 0.25, 0.55]) + random.normal(0, 0.02, 3)
    else:
        part += (0.9 * cover)[..., None] * (np.array([0.55, 0.38, 0.65]) - part)
    seen_rows, seen_columns = (np.flatnonzero((cover > 0.5).any(axis)) for axis in (1, 0))
    left, top = columns.start + seen_columns[0], rows.start + seen_rows[0]
    right, bottom = columns.start + seen_columns[-1] + 1, rows.start + seen_rows[-1] + 1
    return np.array([left, top, right, bottom], np.float32)


def draw(name: str, random: np.random.Generator) -> AnnotatedImage:
    """Draws one picture."""
    background = np.array([0.82, 0.78, 0.77]) + random.normal(0, 0.02, 3)
    slope_y, slope_x = random.uniform(-0.06, 0.06, 2)
    light = slope_y * np.linspace(-1, 1, HEIGHT)[:, None] + slope_x * np.linspace(-1, 1, WIDTH)
    canvas = (background + light[..., None]).astype(np.float32)
    counts = random.integers(6, 15), random.choice(3, p=(0.1, 0.7, 0.2)), random.integers(0, 4)
    placed: list[tuple[float, float, float]] = []  # x, y, radius
    boxes, labels = [], []
    for kind in np.repeat((WHITE, RED, PLATELET), (counts[1], counts[0], counts[2])):
        for _ in range(30):  # tries to find a place
            x, y = random.uniform(4, WIDTH - 4), random.uniform(4, HEIGHT - 4)
            radius = RADII[kind][1]
            if all(np.hypot(x - x0, y - y0) > 0.8 * (radius + radius0) for x0, y0, radius0 in placed):
                placed.append((x, y, radius))
                boxes.append(draw_cell(canvas, int(kind), x, y, random))
                labels.append(int(kind))
                break
    canvas += random.normal(0, 0.025, canvas.shape)
    image = (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)
    return AnnotatedImage(name, image, np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64))


def generate(train: int = TRAIN, validation: int = VALIDATION, test: int = TEST, seed: int = 0) -> ObjectDetection:
    """Draws the data set; the same arguments give the same pictures."""
    splits = [
        tuple(draw(f"{split}-{number}", np.random.default_rng((seed, part, number))) for number in range(count))
        for part, (split, count) in enumerate((("train", train), ("validation", validation), ("test", test)))
    ]
    return ObjectDetection(*splits, CLASSES)


def load(folder: Path) -> ObjectDetection:
    return generate()


DATA_SET = DataSet(
    name="cell-scenes",
    title=LocalizedText("Generated blood cells", "生成的血细胞"),
    description="200 generated pictures of 320×240 pixels with boxes around three kinds of cells; 120 to train",
    licence="Apache-2.0 (generated by this project)",
    home="",
    load=load,
    builtin=True,
)
