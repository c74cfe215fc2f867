"""Loads CIFAR-10: 60,000 colour photographs of 32×32 pixels in ten classes."""

import tarfile
from pathlib import Path, PurePosixPath

import numpy as np

from dlcommon.runtime.data.dataset import DataSet, ImageClassification
from dlcommon.runtime.data.decoded_cache import load_decoded
from dlcommon.runtime.data.image_table import first_encoding, read_images, write_images
from dlcommon.runtime.data.sources import HubSource, RemoteFile, WebSource
from dlcommon.runtime.errors import DataUnavailableError
from dlcommon.runtime.localization import LocalizedText

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN, TEST = "plain_text/train-00000-of-00001.parquet", "plain_text/test-00000-of-00001.parquet"
SIZE = (32, 32)


def load(folder: Path) -> ImageClassification:
    """Reads both tables and decodes their images.

    Raises:
        DamagedDataError: a table or an image in it is not what it should be.
    """
    return load_decoded("cifar10", [folder / TRAIN, folder / TEST], lambda: _decode(folder), ImageClassification)


def _decode(folder: Path) -> ImageClassification:
    train_images, train_labels, train_encodings = read_images(folder / TRAIN, SIZE, len(CLASSES))
    test_images, test_labels, test_encodings = read_images(folder / TEST, SIZE, len(CLASSES))
    encoding = "+".join(sorted(train_encodings | test_encodings))
    return ImageClassification(train_images, train_labels, test_images, test_labels, CLASSES, encoding)


def details(folder: Path) -> str:
    """Says how the images are encoded."""
    return f"{first_encoding(folder / TEST)}-encoded"


RECORD = 1 + 3 * 32 * 32
"""Bytes of one image in the original binary files: its label, then the planes red, green and blue."""


def convert_archive(archive: Path, folder: Path) -> None:
    """Turns the original archive (binary version, which needs no unpickling) into the hub's two tables.

    Raises:
        DataUnavailableError: a file is missing in the archive or has a length that no number of images has.
    """
    contents: dict[str, bytes] = {}
    with tarfile.open(archive, "r:gz") as opened:
        for member in opened:
            file = opened.extractfile(member) if member.name.endswith(".bin") else None
            if file is not None:
                contents[PurePosixPath(member.name).name] = file.read()
    splits = {TRAIN: [f"data_batch_{number}.bin" for number in range(1, 6)], TEST: ["test_batch.bin"]}
    for table, names in splits.items():
        for name in names:
            if not contents.get(name) or len(contents[name]) % RECORD:
                raise DataUnavailableError(f"{archive.name}: {name} is missing or broken off")
        records = np.frombuffer(b"".join(contents[name] for name in names), np.uint8).reshape(-1, RECORD)
        images = np.ascontiguousarray(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        write_images(folder / table, images, records[:, 0].astype(np.int64), CLASSES)


DATA_SET = DataSet(
    name="cifar10",
    title=LocalizedText("CIFAR-10", "CIFAR-10"),
    description="60,000 photographs of 32×32 pixels in ten classes, 50,000 to train and 10,000 to test",
    licence="research use (Krizhevsky 2009)",
    home="https://www.cs.toronto.edu/~kriz/cifar.html",
    folder="cifar10",
    files=(TRAIN, TEST),
    sources=(
        HubSource("uoft-cs/cifar10", (TRAIN, TEST)),
        WebSource(
            "www.cs.toronto.edu",
            ("https://www.cs.toronto.edu/~kriz/",),
            (RemoteFile("cifar-10-binary.tar.gz", "md5:c32a1d4ab5d03f1284b67883e8d87530", 200 * 10**6),),
            convert_archive,
        ),
    ),
    load=load,
    details=details,
)
