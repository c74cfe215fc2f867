"""The types of data between a model and everything that calls it."""

from collections.abc import Callable, Mapping

import numpy as np

Arrays = Mapping[str, np.ndarray]
"""Named arrays that share their first axis, the batch."""

Predict = Callable[[Arrays], dict[str, np.ndarray]]
"""A trained model, whichever library runs it: named input arrays to named output arrays."""


def metadata_of(predict: Predict) -> Mapping[str, str]:
    """Returns the metadata of a predictor's graph, such as its vocabulary; empty if it has none."""
    metadata: Mapping[str, str] = getattr(predict, "metadata", {})
    return metadata
