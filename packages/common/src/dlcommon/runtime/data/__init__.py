"""The data registry: which data sets there are, where they lie, how they are fetched and loaded."""

from dlcommon.runtime.data.dataset import DamagedDataError, DataSet, ImageClassification
from dlcommon.runtime.data.fetch import fetch, resolve
from dlcommon.runtime.data.locate import LocatedDataSet, find, own_files
from dlcommon.runtime.data.registry import DATA_SETS
from dlcommon.runtime.data.table import Table

__all__ = [
    "DATA_SETS",
    "DamagedDataError",
    "DataSet",
    "ImageClassification",
    "LocatedDataSet",
    "Table",
    "fetch",
    "find",
    "own_files",
    "resolve",
]
