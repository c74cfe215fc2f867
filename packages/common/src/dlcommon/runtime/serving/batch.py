"""One batch of a `BatchedService`: items are prepared one by one, stacked, run, and taken apart again."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel

from dlcommon.runtime.arrays import Arrays, Predict
from dlcommon.runtime.errors import InvalidInputError
from dlcommon.runtime.serving.service import BatchedService
from dlcommon.runtime.serving.validation import validate_item

Prepared = tuple[BaseModel, Arrays]
"""An item, and the model's inputs for it without the batch axis."""

Outputs = dict[str, np.ndarray]
"""One item's outputs, without the batch axis."""


def prepare_item(service: BatchedService[Any, Any], raw: Any) -> Prepared:
    """Validates a raw item and turns it into the model's inputs.

    Raises:
        RequestError: the item is not what the service takes.
        InvalidInputError: it cannot be used, or its inputs hold NaN or infinity.
    """
    item = validate_item(service, raw)
    arrays = {name: np.asarray(array) for name, array in service.prepare(item).items()}
    for name, array in arrays.items():
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            raise InvalidInputError(f"{name} holds NaN or infinite values")
    return item, arrays


def stacking_key(arrays: Arrays) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    """Returns names, dtypes and shapes of one item's inputs; items with the same key can be stacked."""
    return tuple((name, array.dtype.str, array.shape) for name, array in sorted(arrays.items()))


def run_batch(predict: Predict, items: Sequence[Arrays]) -> list[Outputs]:
    """Runs a model on the stacked inputs of several items, and returns each item's outputs.

    Raises:
        ValueError: an output has another number of rows than there are items.
    """
    batch = {name: np.stack([arrays[name] for arrays in items]) for name in items[0]}
    outputs = predict(batch)
    for name, output in outputs.items():
        if len(output) != len(items):
            raise ValueError(f"output {name} has {len(output)} rows for a batch of {len(items)}")
    return [{name: output[row] for name, output in outputs.items()} for row in range(len(items))]
