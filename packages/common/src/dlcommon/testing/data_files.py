"""What tests of the data registry put on the disk and look for there."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlcommon.runtime.data import cifar10
from dlcommon.runtime.data.image_table import write_images


def put_small_cifar10(root: Path, rows: int = 20) -> Path:
    """Writes `root/cifar10`, of random pixels, with `rows` pictures in each file; returns that folder."""
    folder, random = root / "cifar10", np.random.default_rng(0)
    for name in cifar10.DATA_SET.files:
        images = random.integers(0, 256, (rows, 32, 32, 3), np.uint8)
        write_images(folder / name, images, np.arange(rows) % 10, cifar10.CLASSES)
    return folder


@dataclass(frozen=True)
class FileContents:
    """Holds the simplest data set in memory: the bytes of a file."""

    content: bytes

    def contents(self) -> Iterator[bytes]:
        yield self.content


def files_below(folder: Path) -> list[str]:
    """Lists the files below the folder, except locks, as sorted relative paths."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock")
