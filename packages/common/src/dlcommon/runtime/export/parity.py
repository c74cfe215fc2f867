"""Whether two runtimes compute the same, on the whole test set."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dlcommon.runtime.capstone import Arrays, Capstone, Evaluation, Predict
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.errors import UserError

ODD_SIZES = (1, 2, 3, 7)
"""Batch sizes that no graph was traced with, tried one after the other."""


@dataclass(frozen=True)
class Parity:
    """The headline metric by both, and the largest difference of any output."""

    torch: float
    onnx: float
    max_abs_difference: float
    n: int


def in_odd_batches(model: Predict, rest: int = 250) -> Predict:
    """A predictor that feeds the model batches of 1, 2, 3, 7 and then `rest` samples."""

    def predict(arrays: Arrays) -> dict[str, np.ndarray]:
        n = len(next(iter(arrays.values())))
        edges = [0]
        sizes = iter(ODD_SIZES)
        while edges[-1] < n:
            edges.append(min(n, edges[-1] + next(sizes, rest)))
        parts = [model({name: array[start:end] for name, array in arrays.items()}) for start, end in pairwise(edges)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    return predict


def compare(
    capstone: Capstone, reference: Evaluation, onnx: Predict, data: LocatedDataSet, tolerance: float = 1e-3
) -> tuple[Parity, Evaluation]:
    """Evaluates the ONNX model and holds it against torch's evaluation.

    Args:
        tolerance: largest difference of an output, relative to 1 or to the outputs' own scale where that is larger.

    Raises:
        UserError: an output or the headline metric differs by more, or is not finite.
    """
    evaluation = capstone.evaluate(in_odd_batches(onnx), data, None)
    difference = 0.0
    for name, expected in reference.outputs.items():
        found = evaluation.outputs[name]
        if not (np.isfinite(expected).all() and np.isfinite(found).all()):
            raise UserError(f"output {name!r} is not finite; nothing is exported")
        if expected.size:
            scale = max(1.0, float(np.abs(expected).max()))
            difference = max(difference, float(np.abs(found - expected).max()) / scale)
    headline = capstone.headline
    parity = Parity(reference.metrics[headline], evaluation.metrics[headline], difference, evaluation.n)
    if difference > tolerance:
        raise UserError(
            f"ONNX and torch differ by {difference:.2g} in an output, more than {tolerance:g}; nothing is exported. "
            f"Is the module in eval mode, and independent of the batch size?"
        )
    if abs(parity.torch - parity.onnx) > 2 / evaluation.n + 1e-6 * abs(parity.torch):
        raise UserError(
            f"{headline} is {parity.onnx:.4f} with ONNX and {parity.torch:.4f} with torch; nothing is exported"
        )
    return parity, evaluation
