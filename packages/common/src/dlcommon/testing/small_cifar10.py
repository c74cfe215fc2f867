"""CIFAR-10's files with a few random pictures in them."""

from pathlib import Path

import numpy as np

from dlcommon.runtime.data import cifar10
from dlcommon.runtime.data.image_table import write_images


def put_small_cifar10(root: Path, rows: int = 20) -> Path:
    """Writes `root/cifar10` with `rows` pictures in each file; returns that folder."""
    folder, random = root / "cifar10", np.random.default_rng(0)
    for name in cifar10.DATA_SET.files:
        images = random.integers(0, 256, (rows, 32, 32, 3), np.uint8)
        write_images(folder / name, images, np.arange(rows) % 10, cifar10.CLASSES)
    return folder
