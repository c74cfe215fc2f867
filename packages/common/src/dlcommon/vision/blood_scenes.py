"""Draws blood under a microscope, with the exact mask of every cell, for lessons that must run without a data set.

Red cells lie in clusters and touch, a white cell has a dark nucleus, platelets are tiny and rare. Real photographs of
the same kind are the data set BCCD, which has boxes but no masks.
"""

from dataclasses import dataclass

import numpy as np
import torch

CLASSES = ("background", "red cell", "white cell", "platelet")
BACKGROUND, RED, WHITE, PLATELET = range(4)

_COLORS = {
    RED: (0.80, 0.62, 0.60),
    WHITE: (0.76, 0.70, 0.82),
    PLATELET: (0.62, 0.52, 0.76),
}
_PALE, _NUCLEUS = (0.86, 0.80, 0.77), (0.48, 0.40, 0.74)


@dataclass(frozen=True)
class BloodScenes:
    """Holds pictures with the class and the cell of each pixel."""

    images: torch.Tensor
    """float32 [n, 3, size, size], 0 to 1."""
    classes: torch.Tensor
    """int64 [n, size, size], an index into `CLASSES`."""
    instances: torch.Tensor
    """int64 [n, size, size]: 0 for background, then one number for each cell of a picture."""

    def masks(self, picture: int) -> torch.Tensor:
        """Returns the masks of one picture's cells, bool [cells, size, size]; covered cells have only what is seen."""
        numbers = self.instances[picture].unique()
        masks: torch.Tensor = self.instances[picture] == numbers[numbers > 0][:, None, None]
        return masks

    def labels(self, picture: int) -> torch.Tensor:
        """Returns the classes of one picture's cells, int64 [cells], in the order of `masks`."""
        return torch.stack([self.classes[picture][mask].max() for mask in self.masks(picture)])


def draw_blood_scenes(count: int, size: int = 64, seed: int = 0, *, clustered: float = 0.5) -> BloodScenes:
    """Draws scenes; the same arguments give the same ones.

    Args:
        count: number of pictures.
        size: their height and width; the cells keep their sizes, and their number grows with the area.
        seed: of the random generator.
        clustered: the probability that a red cell is placed in touch with an earlier one.
    """
    random = np.random.default_rng(seed)
    drawn = [_draw(random, size, clustered) for _ in range(count)]
    images, classes, instances = (np.stack(parts) for parts in zip(*drawn, strict=True))
    return BloodScenes(
        torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(),
        torch.from_numpy(classes),
        torch.from_numpy(instances),
    )


def _draw(random: np.random.Generator, size: int, clustered: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    slope = random.uniform(-0.06, 0.06, 2)
    light = 1 + slope[0] * (rows / size - 0.5) + slope[1] * (columns / size - 0.5)  # uneven illumination
    image = np.full((size, size, 3), (0.87, 0.87, 0.83), np.float32)
    classes, instances = np.zeros((size, size), np.int64), np.zeros((size, size), np.int64)
    placed: list[tuple[float, float, float]] = []  # row, column and radius of each cell

    def place(radius: float, beside: float) -> tuple[float, float] | None:
        """Finds a place that covers no earlier cell by more than a tenth of the radii."""
        for _ in range(30):
            row, column = random.uniform(-0.3 * radius, size + 0.3 * radius, 2)
            if placed and random.random() < beside:
                other = placed[random.integers(len(placed))]
                angle, distance = random.uniform(0, 2 * np.pi), (radius + other[2]) * random.uniform(0.93, 1.03)
                row, column = other[0] + distance * np.sin(angle), other[1] + distance * np.cos(angle)
            inside = -0.3 * radius < min(row, column) and max(row, column) < size + 0.3 * radius
            if inside and all(np.hypot(row - r, column - c) > 0.9 * (radius + other) for r, c, other in placed):
                return float(row), float(column)
        return None

    def distance(row: float, column: float, radius: float, stretch: float, angle: float) -> np.ndarray:
        """Returns the distance to an ellipse's edge in pixels, negative inside, [size, size]."""
        right, down = columns - column, rows - row
        u, v = np.cos(angle) * right + np.sin(angle) * down, np.cos(angle) * down - np.sin(angle) * right
        field: np.ndarray = (np.hypot(u * stretch, v / stretch) / radius - 1) * radius
        return field

    def paint(field: np.ndarray, color: tuple[float, ...], shade: float = 1.0) -> None:
        cover = np.clip(0.5 - field, 0, 1)[..., None]
        image[:] = image + cover * (np.float32(shade) * np.array(color, np.float32) - image)

    area = size * size / 4096
    counts = {
        WHITE: random.poisson(0.6 * area),
        RED: random.poisson(7 * area) + 1,
        PLATELET: random.poisson(1.6 * area),
    }
    for label, radii in ((WHITE, (8.5, 10.5)), (RED, (5.0, 7.5)), (PLATELET, (1.5, 2.3))):
        for _ in range(counts[label]):
            radius = random.uniform(*radii)
            if (at := place(radius, clustered if label == RED else 0.0)) is None:
                continue
            placed.append((*at, radius))
            shape = (random.uniform(0.94, 1.06), random.uniform(0, np.pi))
            field, shade = distance(*at, radius, *shape), random.uniform(0.92, 1.06)
            paint(field, _COLORS[label], shade)
            if label == RED and random.random() < 0.7:  # seen from above, a red cell is pale in the middle
                paint(distance(*at, 0.45 * radius, *shape), _PALE, shade)
            if label == WHITE:  # a nucleus of two or three lobes
                for _ in range(random.integers(2, 4)):
                    row, column = np.array(at) + random.uniform(-0.4, 0.4, 2) * radius
                    paint(distance(row, column, 0.42 * radius, *shape), _NUCLEUS, shade)
            classes[field < 0], instances[field < 0] = label, len(placed)
    image = image * light[..., None] + random.normal(0, 0.02, image.shape)
    return np.clip(image, 0, 1).astype(np.float32), classes, instances
