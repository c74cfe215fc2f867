"""What houses of a category sell for: learnt from prices, so a training row never sees its own."""

from collections.abc import Mapping

import numpy as np
from dlcommon.data_science.target_encoding import TargetEncoding, cross_fitted
from dlcommon.runtime.capstone import Arrays
from dlcommon.runtime.tables.features import Block
from dlcommon.runtime.tables.graph import Graph
from onnx import TensorProto
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold

SMOOTHING = 10.0
"""Houses of average price that each category is given."""
FOLDS = 10
EXPLAINED_BY = ("GrLivArea", "TotalBsmtSF", "OverallQual", "YearBuilt")


class PriceLevel(Block):
    """Two target encodings of a category: of the log price, and of what size, quality and age leave of it."""

    def __init__(self, column: str) -> None:
        self.column, self.sources = column, (column,)
        self.names = [f"price level of {column}", f"price level of {column}, size and quality apart"]

    def _keys(self, columns: Arrays) -> np.ndarray:
        """The category as text, [rows]."""
        values = columns[self.column][:, 0]
        return values.astype(str) if values.dtype == object else values.astype(np.int64).astype(str)

    def _targets(self, columns: Arrays, target: np.ndarray) -> list[np.ndarray]:
        known = [np.log1p(columns[name]) for name in EXPLAINED_BY if name in columns]
        explained = LinearRegression().fit(np.hstack(known), target).predict(np.hstack(known))
        return [target - target.mean(), target - explained]

    def fit(self, columns: Arrays, target: np.ndarray) -> None:
        keys = self._keys(columns)
        self.encodings = [TargetEncoding.fit(keys, wanted, SMOOTHING) for wanted in self._targets(columns, target)]

    def fit_transform(self, columns: Arrays, target: np.ndarray) -> np.ndarray:
        self.fit(columns, target)
        keys, folds = self._keys(columns), list(KFold(FOLDS, shuffle=True, random_state=0).split(target))
        encoded = [cross_fitted(keys, wanted, folds, SMOOTHING) for wanted in self._targets(columns, target)]
        return np.stack(encoded, axis=1).astype(np.float32)

    def transform(self, columns: Arrays) -> np.ndarray:
        keys = self._keys(columns)
        return np.stack([encoding.encode(keys) for encoding in self.encodings], axis=1).astype(np.float32)

    def write(self, graph: Graph, inputs: Mapping[str, str]) -> str:
        key = inputs[self.column]
        if self.encodings[0].categories[0].lstrip("-").isdigit():
            key = graph.cast(graph.cast(key, TensorProto.INT64), TensorProto.STRING)
        tables = [
            graph.lookup(key, dict(zip(map(str, e.categories), e.values, strict=True)), e.overall)
            for e in self.encodings
        ]
        return graph.add("Concat", *tables, axis=1)
