"""Runs a model over a whole test set, a batch at a time."""

from itertools import pairwise

import numpy as np

from dlcommon.runtime.arrays import Arrays, Predict, metadata_of
from dlcommon.runtime.errors import UserError


def in_batches(model: Predict, size: int = 250, first: tuple[int, ...] = ()) -> Predict:
    """Makes a predictor of any number of samples: the model gets `size` at once, after batches of the `first` sizes.

    Raises:
        UserError: when it predicts, and the model cannot compute such a batch.
    """
    return _InBatches(model, size, first)


class _InBatches:
    def __init__(self, model: Predict, size: int, first: tuple[int, ...]) -> None:
        self._model, self._size, self._first = model, size, first
        self.metadata = metadata_of(model)

    def __call__(self, arrays: Arrays) -> dict[str, np.ndarray]:
        n = len(next(iter(arrays.values())))
        edges, sizes = [0], iter(self._first)
        while edges[-1] < n:
            edges.append(min(n, edges[-1] + next(sizes, self._size)))
        parts = [_run(self._model, {k: v[start:end] for k, v in arrays.items()}) for start, end in pairwise(edges)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _run(model: Predict, arrays: Arrays) -> dict[str, np.ndarray]:
    n = len(next(iter(arrays.values())))
    try:
        outputs = model(arrays)
    except Exception as error:  # ONNX Runtime's errors share no base class of their own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"the model fails on a batch of {n}; is a batch size written into it? {reason}") from error
    for name, output in outputs.items():
        if np.shape(output)[:1] != (n,):
            raise UserError(f"the model's {name!r} is {np.shape(output)} for a batch of {n}: not one row a sample")
    return outputs
