"""The result of an evaluation."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Evaluation:
    """Holds a model's metrics and outputs on a whole test set."""

    n: int
    """Samples evaluated."""
    metrics: dict[str, float]
    """Name to value; the capstone's headline metric is among them."""
    outputs: dict[str, np.ndarray]
    """The model's raw outputs, one row a sample: what export compares between two runtimes."""
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    """95 % confidence intervals of some of the metrics."""
    tables: dict[str, Any] = field(default_factory=dict)
    """Anything else worth keeping in eval.json, such as per-class figures."""
    shown: dict[str, list[dict[str, str | int | float]]] = field(default_factory=dict)
    """Small tables that records keep and RESULTS.md shows: title to rows of column to value."""
