"""The training face nearest to a drawn one, where the data set is on this machine."""

import threading

import numpy as np
from dlcommon.runtime.data import DATA_SETS, UnlabelledImages, find
from dlcommon.runtime.data.locate import LocatedDataSet
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.media import encode_png

SIDE = 16
"""Pictures are compared by this many pixels a side."""


def small(pictures: np.ndarray) -> np.ndarray:
    """Averages uint8 [pictures, height, width, 3] to float32 [pictures, 768]."""
    count, height, width, channels = pictures.shape
    blocks = pictures.reshape(count, SIDE, height // SIDE, SIDE, width // SIDE, channels)
    means: np.ndarray = blocks.mean(axis=(2, 4), dtype=np.float32)
    return means.reshape(count, -1)


class TrainingFaces:
    """Finds nearest training faces; reads the data set when it is first asked."""

    def __init__(self, data: LocatedDataSet) -> None:
        self._data, self._lock = data, threading.Lock()
        self._pictures: np.ndarray | None = None
        self._small: np.ndarray | None = None

    @classmethod
    def of(cls, model: OnnxModel) -> "TrainingFaces | None":
        """Returns those that a model was trained on; None where they are not on this machine."""
        located = find(model.data_name) if model.data_name in DATA_SETS else None
        return cls(located) if located is not None else None

    def beside(self, face: np.ndarray) -> bytes:
        """Returns a PNG of a face uint8 [64, 64, 3] and, to its right, the nearest training face."""
        with self._lock:  # two visitors at once would read it twice
            if self._small is None:
                images: UnlabelledImages = self._data.load()
                self._pictures, self._small = images.train, small(images.train)
        assert self._pictures is not None
        distances = ((self._small - small(face[None])) ** 2).sum(axis=1)
        return encode_png(np.concatenate((face, self._pictures[distances.argmin()]), axis=1))
