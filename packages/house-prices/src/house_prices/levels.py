"""What is usual where a house stands: what houses of a category sell for, and how large, good and old they are."""

from collections.abc import Mapping

import numpy as np
from dlcommon.data_science.target_encoding import TargetEncoding, cross_fit_encode
from dlcommon.runtime.arrays import Arrays
from dlcommon.runtime.tables.features import Block
from dlcommon.runtime.tables.graph import Graph
from onnx import TensorProto
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold

from house_prices.expressions import Expression

SMOOTHING = 10.0
"""Average houses that each category is given."""
FOLDS = 10
EXPLAINED_BY = ("GrLivArea", "TotalBsmtSF", "OverallQual", "YearBuilt")


class AmongNeighbours(Block):
    """Compares a house with what is usual in its neighbourhood.

    The appraisers' principle of conformity: a house far larger than its neighbours does not bring what its size would
    elsewhere.

    Args:
        values: what is compared, by the feature's name.
        place: column of the neighbourhood.
    """

    def __init__(self, values: Mapping[str, Expression], place: str = "Neighborhood") -> None:
        self.values, self.place, self.names = dict(values), place, list(values)
        self.sources = tuple(sorted(frozenset({place}).union(*(value.sources for value in values.values()))))

    def sources_of_each(self) -> list[tuple[str, ...]]:
        return [tuple(sorted(value.sources)) for value in self.values.values()]

    def fit(self, columns: Arrays, target: np.ndarray) -> None:
        places = columns[self.place][:, 0].astype(str)
        self.usual = [
            TargetEncoding.fit(places, value.compute(columns)[:, 0], SMOOTHING) for value in self.values.values()
        ]

    def transform(self, columns: Arrays) -> np.ndarray:
        places = columns[self.place][:, 0].astype(str)
        usual = np.stack([encoding.encode(places) for encoding in self.usual], axis=1).astype(np.float32)
        return np.hstack([value.compute(columns) for value in self.values.values()]) - usual

    def write(self, graph: Graph, inputs: Mapping[str, str]) -> str:
        return graph.add("Concat", *[
            graph.add("Sub", value.write(graph, inputs), _written(graph, inputs[self.place], usual))
            for value, usual in zip(self.values.values(), self.usual, strict=True)
        ], axis=1)  # fmt: skip


class PriceLevel(Block):
    """Encodes a category by its log price, and by what size, quality and age leave of that.

    Both are target encodings: they are learnt from prices, so a training row never sees its own.
    """

    def __init__(self, column: str) -> None:
        self.column, self.sources = column, (column,)
        self.names = [f"price level of {column}", f"price level of {column}, size and quality apart"]

    def _keys(self, columns: Arrays) -> np.ndarray:
        """Returns the category as text, [rows]."""
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
        encoded = [cross_fit_encode(keys, wanted, folds, SMOOTHING) for wanted in self._targets(columns, target)]
        return np.stack(encoded, axis=1).astype(np.float32)

    def transform(self, columns: Arrays) -> np.ndarray:
        keys = self._keys(columns)
        return np.stack([encoding.encode(keys) for encoding in self.encodings], axis=1).astype(np.float32)

    def write(self, graph: Graph, inputs: Mapping[str, str]) -> str:
        key = inputs[self.column]
        if self.encodings[0].categories[0].lstrip("-").isdigit():
            key = graph.cast(graph.cast(key, TensorProto.INT64), TensorProto.STRING)
        return graph.add("Concat", *[_written(graph, key, encoding) for encoding in self.encodings], axis=1)


def _written(graph: Graph, key: str, encoding: TargetEncoding) -> str:
    """Writes the encoding of a text as a node."""
    return graph.lookup(key, dict(zip(map(str, encoding.categories), encoding.values, strict=True)), encoding.overall)
