"""The user's own pictures as a data set: a folder, cropped to squares and resized."""

import glob
from pathlib import Path

import numpy as np
from dlcommon.runtime.data import DataSet, LocatedDataSet, UnlabelledImages
from dlcommon.runtime.data.decoded_cache import load_decoded
from dlcommon.runtime.data.picture_folder import folder_name, picture_files
from dlcommon.runtime.errors import InvalidInputError, UsageError
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.output import Output
from dlcommon.runtime.serving.images import SUFFIXES, ImageLimits, decode_image
from PIL import Image

from face_gan.config import Config
from face_gan.model import SIZE

FEWEST = 100
"""Pictures that are enough to train on and to test."""
SMALLEST = SIZE // 2
"""Sides of a picture that is not too small to be enlarged."""
COLOURED = 12
"""Levels of 255 by which the channels of some pixel differ in a picture that is not gray."""
EVERY = 10
"""One picture in this many is for testing."""
NAMED = 5
"""Files of each kind that a message names."""


def own_data(config: Config) -> LocatedDataSet | None:
    """Returns the pictures of `--data-folder`, if it is given.

    Raises:
        UsageError: there is no such folder, or it holds too few pictures.
    """
    if config.data_folder is None:
        return None
    folder = Path(config.data_folder).expanduser().resolve()
    if not folder.is_dir():
        raise UsageError(f"--data-folder {folder}: there is no such folder")
    paths = picture_files(folder)
    if len(paths) < FEWEST:
        raise UsageError(
            f"--data-folder {folder}: {len(paths)} pictures are too few; at least {FEWEST} are needed (of "
            f"{', '.join(sorted(SUFFIXES))})"
        )
    name = folder_name(folder)
    title = LocalizedText(folder.name, folder.name)
    files = tuple(glob.escape(file.as_posix()) for file in paths)  # a name may hold what patterns are made of

    def load(root: Path) -> UnlabelledImages:
        return load_decoded(f"own-{name}", [root / file for file in paths], lambda: read_folder(root), UnlabelledImages)

    dataset = DataSet(name, title, "the user's own pictures", "the user's own", "", load, files=files)
    return LocatedDataSet(dataset, folder, "file")


def read_folder(folder: Path) -> UnlabelledImages:
    """Reads all pictures below a folder; says which it skips, and why.

    Raises:
        UsageError: too few of them can be used.
    """
    images, skipped = [], dict[str, list[str]]()
    for path in picture_files(folder):
        picture = read_picture(folder / path)
        if isinstance(picture, str):
            skipped.setdefault(picture, []).append(str(path))
        else:
            images.append(picture)
    for reason, names in skipped.items():
        listed = ", ".join(names[:NAMED]) + (" …" if len(names) > NAMED else "")
        # On stderr, since stdout may be for one JSON object alone.
        Output(as_json=True).say(f"skipped {len(names)} of {folder.name}, {reason}: {listed}")
    if len(images) < FEWEST:
        raise UsageError(f"{folder}: {len(images)} pictures can be used, and at least {FEWEST} are needed")
    joined = np.stack(images)
    tested = np.arange(len(joined)) % EVERY == EVERY - 1
    return UnlabelledImages(joined[~tested], joined[tested], "mixed")


def read_picture(path: Path) -> np.ndarray | str:
    """Reads a picture as its largest centered square, uint8 [64, 64, 3]; or returns why it is of no use."""
    try:
        image = Image.fromarray(decode_image(path.read_bytes(), ImageLimits()))
    except InvalidInputError as error:
        return str(error)
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    if min(image.size) < SMALLEST:
        return f"smaller than {SMALLEST}×{SMALLEST} pixels"
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.resize((SIZE, SIZE), Image.Resampling.LANCZOS, (left, top, left + side, top + side))
    pixels = np.asarray(square)
    if np.ptp(pixels.astype(np.int16), axis=2).max() < COLOURED:
        return "without colour, which the network would learn to leave out"
    return pixels
