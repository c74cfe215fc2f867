"""Features as the linear model, the kernel machine and the network take them: standardized, and without far tails."""

from collections.abc import Mapping
from typing import Self

import numpy as np
from dlcommon.runtime.tables.graph import Graph

TAIL = 0.002
"""Share of training rows beyond which a number is cut off at either end."""
REACH = 4.0
"""Standard deviations that no scaled feature exceeds."""
SMALLEST_DEVIATION = 0.1
"""Of flags: one that is nearly always 0 is not blown up."""


class Scaler:
    """Computes z = (clip(x) - mean) · scale by the training rows, then z / √(1 + (z / reach)²).

    The smooth clipping is RealMLP's (Holzmüller et al. 2024, https://arxiv.org/abs/2407.04491): no model runs away on
    a house that is far larger than all others.

    Args:
        arrays: `low`, `high`, `mean` and `scale`, float32 [features]; others are left out.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = {name: arrays[name] for name in ("low", "high", "mean", "scale")}

    @classmethod
    def fitted(cls, features: np.ndarray) -> Self:
        """Learns the limits and scales from features [rows, features]."""
        flags = np.array([len(np.unique(column)) <= 2 for column in features.T])
        low = np.where(flags, -np.inf, np.quantile(features, TAIL, axis=0))
        high = np.where(flags, np.inf, np.quantile(features, 1 - TAIL, axis=0))
        clipped = np.clip(features, low, high)
        deviation = clipped.std(axis=0)
        smallest = np.where(flags, SMALLEST_DEVIATION, 1e-6)
        # What never varied says nothing.
        scale = np.where(deviation > 1e-6, 1 / np.maximum(deviation, smallest), 0)
        found = {"low": low, "high": high, "mean": clipped.mean(axis=0), "scale": scale}
        return cls({name: values.astype(np.float32) for name, values in found.items()})

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Scales features [rows, features]; float32."""
        clipped = np.clip(features, self.arrays["low"], self.arrays["high"])
        z = (clipped - self.arrays["mean"]) * self.arrays["scale"]
        return np.asarray(z / np.sqrt(1 + (z / np.float32(REACH)) ** 2), dtype=np.float32)

    def write(self, graph: Graph, features: str) -> str:
        """Writes the transform as nodes; returns the name of the scaled features."""
        raised = graph.add("Max", features, graph.constant(self.arrays["low"]))
        clipped = graph.add("Min", raised, graph.constant(self.arrays["high"]))
        centred = graph.add("Sub", clipped, graph.constant(self.arrays["mean"]))
        z = graph.add("Mul", centred, graph.constant(self.arrays["scale"]))
        ratio = graph.add("Div", z, graph.constant(REACH))
        square = graph.add("Add", graph.add("Mul", ratio, ratio), graph.constant(1))
        return graph.add("Div", z, graph.add("Sqrt", square))
