"""Loads faces of anime characters: 33,431 drawings of 64×64 pixels.

The drawings are fan art that was crawled from the web: train on them and show what a model draws, but do not
redistribute them.
"""

from pathlib import Path

import numpy as np

from dlcommon.runtime.data.dataset import DataSet, UnlabelledImages
from dlcommon.runtime.data.decoded_cache import load_decoded
from dlcommon.runtime.data.image_table import first_encoding, read_unlabelled_images
from dlcommon.runtime.localization import LocalizedText

FILE = "train-00000-of-00001.parquet"
COLUMN = "image"
SIZE = (64, 64)
EVERY = 10
"""One drawing in this many is for testing."""


def load(folder: Path) -> UnlabelledImages:
    """Reads 30,088 drawings to train and 3,343 to test: 411 MB once they are decoded; always the same split.

    Raises:
        DamagedDataError: the table or an image in it is damaged; says in which row.
    """
    return load_decoded("anime-faces-64", [folder / FILE], lambda: _decode(folder / FILE), UnlabelledImages)


def _decode(path: Path) -> UnlabelledImages:

    images, encodings = read_unlabelled_images(path, SIZE, COLUMN)
    tested = np.arange(len(images)) % EVERY == EVERY - 1
    return UnlabelledImages(images[~tested], images[tested], "+".join(sorted(encodings)))


def details(folder: Path) -> str:
    """Says how the images are encoded."""
    return f"{first_encoding(folder / FILE, COLUMN)}-encoded"


DATA_SET = DataSet(
    name="anime-faces-64",
    title=LocalizedText("Anime faces", "动漫头像"),
    description="33,431 faces of anime characters of 64×64 pixels, without labels",
    licence="research use (crawled fan art: do not redistribute)",
    home="https://github.com/antoncoding/Deep_Learning_GAN",
    folder="anime-faces-64",
    files=(FILE,),
    load=load,
    details=details,
)
