"""The training face nearest to a drawn one, where the data set is on this machine."""

import threading

import numpy as np
from dlcommon.runtime.data import DATA_SETS, UnlabelledImages, find
from dlcommon.runtime.data.locate import LocatedDataSet
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.media import encode_png

from face_gan.pictures import block_means

SIDE = 16
"""Pictures are compared by this many pixels a side."""


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
                self._pictures, self._small = images.train, block_means(images.train, SIDE)
        assert self._pictures is not None
        distances = ((self._small - block_means(face[None], SIDE)) ** 2).sum(axis=1)
        return encode_png(np.concatenate((face, self._pictures[distances.argmin()]), axis=1))
