"""Types of the named arrays that go into models and come out of them."""

from collections.abc import Callable, Mapping

import numpy as np

Arrays = Mapping[str, np.ndarray]
"""Name to array; all share their first axis, the batch, unless stated otherwise."""

Predict = Callable[[Arrays], dict[str, np.ndarray]]
"""A trained model, whichever library runs it: named input arrays to named output arrays."""
