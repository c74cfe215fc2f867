"""Loads MNIST: 70,000 handwritten digits of 28×28 pixels, in LeCun's idx files."""

import struct
from pathlib import Path

import numpy as np

from dlcommon.runtime.data.dataset import DamagedDataError, DataSet, ImageClassification
from dlcommon.runtime.data.sources import RemoteFile, WebSource, gunzip_into
from dlcommon.runtime.localization import LocalizedText

CLASSES = tuple("0123456789")
TRAIN = ("raw/train-images-idx3-ubyte", "raw/train-labels-idx1-ubyte")
TEST = ("raw/t10k-images-idx3-ubyte", "raw/t10k-labels-idx1-ubyte")
TRAIN_DIGITS = 60_000


def read_shape(path: Path, axes: int) -> tuple[int, ...]:
    """Reads the shape from the header of an idx file of bytes, and checks that the file's length agrees.

    Raises:
        DamagedDataError: the header is not that of such a file, or the file is too short or too long.
    """
    header, size = 4 + 4 * axes, path.stat().st_size
    if size == 0:
        raise DamagedDataError(path, "the file is empty")
    with path.open("rb") as file:
        start = file.read(header)
    magic = bytes((0, 0, 8, axes))  # 8: unsigned bytes
    if len(start) < header or start[:4] != magic:
        raise DamagedDataError(path, f"not an idx file with {axes} axes (starts with {start[:4].hex()})")
    shape = struct.unpack(f">{axes}I", start[4:])
    item = 1
    for length in shape[1:]:
        item *= length
    if size < header + shape[0] * item:
        row = (size - header) // item
        raise DamagedDataError(path, f"the file breaks off; its header promises {shape[0]:,} rows", row)
    if size > header + shape[0] * item:
        raise DamagedDataError(path, f"the file goes on after the {shape[0]:,} rows of its header")
    return shape


def read_split(folder: Path, names: tuple[str, str]) -> tuple["np.ndarray", "np.ndarray"]:
    """Reads images, uint8 [n, 28, 28, 1], and labels, int64 [n].

    Raises:
        DamagedDataError: a file is damaged, the numbers of images and labels differ, or a label is not 0 to 9.
    """
    images_path, labels_path = (folder / name for name in names)
    shape, (count,) = read_shape(images_path, 3), read_shape(labels_path, 1)
    if shape[0] == 0 or shape[1:] != (28, 28):
        raise DamagedDataError(images_path, f"its header states {shape[0]} images of {shape[1:]} pixels")
    if shape[0] != count:
        raise DamagedDataError(labels_path, f"holds {count:,} labels for {shape[0]:,} images")
    images = np.fromfile(images_path, np.uint8, offset=16).reshape(*shape, 1)
    labels = np.fromfile(labels_path, np.uint8, offset=8).astype(np.int64)
    if (wrong := np.flatnonzero(labels >= len(CLASSES))).size:
        row = int(wrong[0])
        raise DamagedDataError(labels_path, f"the label is {labels[row]}, not from 0 to 9", row)
    return images, labels


def load(folder: Path) -> ImageClassification:
    """Reads all four files. A copy with fewer training digits than the standard 60,000 is taken as it is."""
    return ImageClassification(*read_split(folder, TRAIN), *read_split(folder, TEST), CLASSES)


def details(folder: Path) -> str:
    """Says how many of the training digits this copy has."""
    count = read_shape(folder / TRAIN[0], 3)[0]
    if count == TRAIN_DIGITS:
        return f"{count:,} training digits"
    return f"{count:,} of the {TRAIN_DIGITS:,} training digits"


DATA_SET = DataSet(
    name="mnist",
    title=LocalizedText("MNIST handwritten digits", "MNIST 手写数字"),
    description="handwritten digits of 28×28 pixels, 60,000 to train and 10,000 to test",
    licence="CC BY-SA 3.0 (LeCun, Cortes, Burges)",
    home="http://yann.lecun.com/exdb/mnist/",
    folder="MNIST",
    files=(*TRAIN, *TEST),
    sources=(
        WebSource(
            "mnist-mirrors",
            (
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
                "https://storage.googleapis.com/cvdf-datasets/mnist/",
            ),
            (
                RemoteFile("train-images-idx3-ubyte.gz", "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873"),
                RemoteFile("train-labels-idx1-ubyte.gz", "md5:d53e105ee54ea40749a09fcbcd1e9432"),
                RemoteFile("t10k-images-idx3-ubyte.gz", "md5:9fb629c4189551a2d022fa330f9573f3"),
                RemoteFile("t10k-labels-idx1-ubyte.gz", "md5:ec29112dd5afa0611ce80d1b7f02629c"),
            ),
            gunzip_into("raw"),
        ),
    ),
    load=load,
    details=details,
)
