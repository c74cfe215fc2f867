"""Reads a pandas table that a package ships pickled, without running what the file may ask for.

A pickle names functions to call. The unpickler here looks up those that a plain table is made of, and no other, so that
a file can at worst be a wrong table.
"""

import lzma
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlcommon.runtime.data.dataset import DamagedDataError

if TYPE_CHECKING:
    import pandas as pd

PARTS = frozenset(
    [
        ("builtins", "slice"),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.numeric", "_frombuffer"),
        ("pandas._libs.internals", "_unpickle_block"),
        ("pandas.core.frame", "DataFrame"),
        ("pandas.core.indexes.base", "Index"),
        ("pandas.core.indexes.base", "_new_Index"),
        ("pandas.core.indexes.range", "RangeIndex"),
        ("pandas.core.internals.managers", "BlockManager"),
    ]
)
"""Module and name of each function and class that a table of numbers and texts consists of."""


class _TableUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core.", "numpy._core.")  # as NumPy 1 called it
        if (module, name) not in PARTS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no part of a table")
        return super().find_class(module, name)


def read_pickled_table(path: Path) -> "pd.DataFrame":
    """Reads the table of an xz-compressed pickle.

    Raises:
        DamagedDataError: the file is missing or damaged, holds no table, or asks for anything else to be called.
    """
    import pandas as pd

    try:
        with lzma.open(path) as file:
            table = _TableUnpickler(file).load()
    except Exception as error:  # whatever unpickling a damaged file may raise
        raise DamagedDataError(path, f"cannot be read ({error})") from error
    if not isinstance(table, pd.DataFrame):
        raise DamagedDataError(path, f"holds a {type(table).__name__}, not a table")
    return table
