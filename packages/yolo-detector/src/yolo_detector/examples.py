"""Pictures and a video to try the detector on: generated ones, which anybody may have."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from dlcommon.runtime.data.cell_scenes import draw

from yolo_detector.video_writer import VideoWriter


@lru_cache
def scene(number: int) -> np.ndarray:
    """Draws one generated scene of blood cells: uint8 [240, 320, 3]."""
    return draw(f"example-{number}", np.random.default_rng(number)).image


def large_scene(numbers: range, columns: int) -> np.ndarray:
    """Puts scenes side by side: a picture in which cells are small."""
    scenes = [scene(number) for number in numbers]
    rows = [np.concatenate(scenes[start : start + columns], axis=1) for start in range(0, len(scenes), columns)]
    return np.concatenate(rows)


def clip(path: Path, seconds: float = 3.0, rate: int = 12) -> Path:
    """Writes a video that glides over generated cells, as one moves a slide under a microscope."""
    ground = large_scene(range(40, 44), columns=2)
    height, width = scene(40).shape[:2]
    writer = VideoWriter(path)
    for number in range(round(seconds * rate)):
        share = number / (seconds * rate)
        left, top = round(share * (ground.shape[1] - width)), round(share * (ground.shape[0] - height))
        writer.add(ground[top : top + height, left : left + width], number / rate)
    writer.close()
    return path
