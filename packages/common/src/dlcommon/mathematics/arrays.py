"""Array types of the modules that compute with NumPy."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]
"""An array of real numbers, of any shape and floating-point precision."""
