"""Asks a batched service as the server does, without a server."""

from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel

from dlcommon.runtime.serving.service import BatchedService

ResponseItem = TypeVar("ResponseItem", bound=BaseModel)


def batched_answers(service: BatchedService[Any, ResponseItem], *items: dict[str, Any]) -> list[ResponseItem]:
    """Validates and prepares the items one by one, runs them as one batch, and returns their answers.

    Raises:
        ValidationError: an item is not what the service takes.
        AssertionError: what was prepared holds NaN or infinity.
    """
    rows = [service.item.model_validate(item) for item in items]
    prepared = [service.prepare(row) for row in rows]
    for arrays in prepared:
        for array in arrays.values():
            assert array.dtype.kind not in "fc" or np.isfinite(array).all()
    batch = {name: np.stack([arrays[name] for arrays in prepared]) for name in prepared[0]}
    outputs = service.run(service.model, batch)
    return [service.answer_for(row, {k: v[i] for k, v in outputs.items()}) for i, row in enumerate(rows)]
