"""Compares two runtimes on the whole test set."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dlcommon.runtime.arrays import Predict
from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.evaluation.batched import in_batches
from dlcommon.runtime.evaluation.result import Evaluation

ODD_SIZES = (1, 2, 3, 7)
"""Batch sizes besides the traced one, tried one after the other: an exporter can freeze what it has seen."""
TOLERANCE = 1e-3
"""Largest difference of an output: far above what sums taken in another order do to float32 (some 1e-6), far
below what a wrong graph does, in train mode or with another preprocessing."""


@dataclass(frozen=True)
class Parity:
    """Holds the headline metric of the original and of ONNX, and the largest difference in any output."""

    original: float
    """In the library that trained it."""
    onnx: float
    max_abs_difference: float
    """Relative to the output's largest absolute value where that exceeds 1: logits of 50 carry fewer decimals."""
    tolerance: float
    n: int


def compare(
    capstone: Capstone[Any], reference: Evaluation, onnx: Predict, data: LocatedDataSet, tolerance: float = TOLERANCE
) -> Parity:
    """Evaluates the ONNX model on the test set and compares it with the original's evaluation.

    The headline metric may differ as far as its `Metric` allows.

    Raises:
        UserError: an output or the metric differs by more, or is not finite.
    """
    evaluation = capstone.evaluate(in_batches(onnx, first=ODD_SIZES), data, None)
    difference = 0.0
    for name, expected in reference.outputs.items():
        found = evaluation.outputs[name]
        if found.shape != expected.shape:
            raise UserError(f"output {name!r} is {found.shape} with ONNX, {expected.shape} without")
        if not (np.isfinite(expected).all() and np.isfinite(found).all()):
            raise UserError(f"output {name!r} is not finite; nothing is exported")
        if expected.size:
            scale = max(1.0, float(np.abs(expected).max()))
            distance = np.abs(np.subtract(found, expected, dtype=np.float64)).max()
            difference = max(difference, float(distance) / scale)
    headline = capstone.headline
    original, exported = reference.metrics[headline.name], evaluation.metrics[headline.name]
    parity = Parity(original, exported, difference, tolerance, evaluation.n)
    if difference > tolerance:
        raise UserError(
            f"ONNX and the original differ by {difference:.2g} in an output, more than {tolerance:g}; nothing is "
            f"exported. Is the module in eval mode, and independent of the batch size?"
        )
    if not headline.agrees(original, exported, evaluation.n):
        raise UserError(
            f"{headline.name} is {exported:.4f} with ONNX and {original:.4f} without, which differ by more than "
            f"{headline.allowed_difference(original, evaluation.n):.2g}; nothing is exported"
        )
    return parity
