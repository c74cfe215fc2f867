"""From columns to features: blocks that are fitted on training rows, computed in NumPy, and written as ONNX nodes.

Columns are [rows, 1], float32 with NaN or text with "" where a value is missing; features are float32 [rows, features]
and never missing. Both ways to compute them agree to float32's rounding.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
from onnx import TensorProto

from dlcommon.runtime.arrays import Arrays
from dlcommon.runtime.tables.graph import Graph


class Block(ABC):
    """Computes some features from a few columns, in NumPy and as ONNX nodes. A base class."""

    names: list[str]
    """Names of the features; known after `fit`."""
    sources: tuple[str, ...]

    def fit(self, columns: Arrays, target: np.ndarray) -> None:
        """Learns from training rows; `target` holds their classes as 0, 1, …. By default there is nothing to learn."""
        return

    @abstractmethod
    def transform(self, columns: Arrays) -> np.ndarray:
        """Computes the features of any rows."""

    def fit_transform(self, columns: Arrays, target: np.ndarray) -> np.ndarray:
        """Computes the features of the training rows, which may know less of their own target than others do."""
        self.fit(columns, target)
        return self.transform(columns)

    @abstractmethod
    def write(self, graph: Graph, inputs: Mapping[str, str]) -> str:
        """Writes the same as nodes; `inputs` maps columns to the names of their values."""

    def sources_of_each(self) -> list[tuple[str, ...]]:
        """Returns the columns that each feature is made of: by default all of the block's."""
        return [self.sources for _ in self.names]


class Number(Block):
    """Passes a number on, replacing missing ones by the median, with a flag for them if any were missing in training.

    Args:
        logarithm: takes log(1 + x), to three decimals, as suits skewed numbers that are never negative.
    """

    def __init__(self, column: str, logarithm: bool = False) -> None:
        self.sources, self.logarithm = (column,), logarithm

    def fit(self, columns: Arrays, target: np.ndarray) -> None:
        values = columns[self.sources[0]]
        known = values[~np.isnan(values)]
        self.median = np.float32(np.median(known) if known.size else 0)
        self.flagged = known.size < values.size
        self.names = [self.sources[0], *([f"{self.sources[0]} missing"] if self.flagged else [])]

    def transform(self, columns: Arrays) -> np.ndarray:
        values = columns[self.sources[0]]
        missing = np.isnan(values)
        filled = np.where(missing, self.median, values)
        if self.logarithm:
            filled = rounded_logarithm(filled)
        return np.hstack([filled, missing]).astype(np.float32) if self.flagged else filled.astype(np.float32)

    def write(self, graph: Graph, inputs: Mapping[str, str]) -> str:
        values = inputs[self.sources[0]]
        missing = graph.add("IsNaN", values)
        filled = graph.add("Where", missing, graph.constant(self.median), values)
        if self.logarithm:
            filled = write_rounded_logarithm(graph, filled)
        return graph.add("Concat", filled, graph.cast(missing), axis=1) if self.flagged else filled


def rounded_logarithm(values: np.ndarray) -> np.ndarray:
    """Computes log(1 + x) to three decimals, 0 below zero; runtimes whose last bits differ then agree in a tree."""
    logarithm = np.log(np.maximum(values, 0).astype(np.float32) + np.float32(1))
    return np.asarray(np.rint(logarithm * np.float32(1000)) / np.float32(1000), dtype=np.float32)


def write_rounded_logarithm(graph: Graph, values: str) -> str:
    thousand = graph.constant(1000)
    logarithm = graph.add("Log", graph.add("Add", graph.add("Relu", values), graph.constant(1)))
    return graph.add("Div", graph.add("Round", graph.add("Mul", logarithm, thousand)), thousand)


class OneHot(Block):
    """Encodes each value that enough training rows have as one feature; any other or missing value is all zeros."""

    def __init__(self, column: str, least: int = 8) -> None:
        self.sources, self.least = (column,), least

    def fit(self, columns: Arrays, target: np.ndarray) -> None:
        values = columns[self.sources[0]]
        self.is_text = values.dtype == object
        known = values[values != ""] if self.is_text else values[~np.isnan(values)]
        levels, counts = np.unique(known.astype(str) if self.is_text else known, return_counts=True)
        self.levels = levels[counts >= min(self.least, max(counts, default=0))]
        shown = self.levels if self.is_text else [f"{level:g}" for level in self.levels]
        self.names = [f"{self.sources[0]} = {level}" for level in shown]

    def transform(self, columns: Arrays) -> np.ndarray:
        values = columns[self.sources[0]]
        return np.asarray(values == self.levels.astype(object if self.is_text else np.float32)[None], dtype=np.float32)

    def write(self, graph: Graph, inputs: Mapping[str, str]) -> str:
        values = inputs[self.sources[0]]
        if not self.is_text:
            return graph.cast(graph.add("Equal", values, graph.constant(self.levels[None])))
        hot = graph.add(
            "OneHotEncoder", values, domain="ai.onnx.ml", cats_strings=[str(level) for level in self.levels], zeros=1
        )  # [rows, 1, levels]
        return graph.add("Squeeze", hot, graph.constant([1], np.int64))


class Patterns(Block):
    """Tells whether the whole text matches each pattern, in the regular-expression syntax that Python and RE2 share."""

    def __init__(self, column: str, patterns: Mapping[str, str]) -> None:
        self.sources, self.patterns, self.names = (column,), dict(patterns), list(patterns)

    def transform(self, columns: Arrays) -> np.ndarray:
        texts = columns[self.sources[0]][:, 0]
        flags = [[re.fullmatch(pattern, text) is not None for pattern in self.patterns.values()] for text in texts]
        return np.array(flags, dtype=np.float32).reshape(len(texts), len(self.patterns))

    def write(self, graph: Graph, inputs: Mapping[str, str]) -> str:
        text = inputs[self.sources[0]]
        flags = [graph.cast(graph.add("RegexFullMatch", text, pattern=p)) for p in self.patterns.values()]
        return graph.add("Concat", *flags, axis=1)


class Product(Block):
    """Multiplies every feature of one block by every feature of another."""

    def __init__(self, left: Block, right: Block) -> None:
        self.left, self.right = left, right
        self.sources = tuple(dict.fromkeys((*left.sources, *right.sources)))

    def fit(self, columns: Arrays, target: np.ndarray) -> None:
        self.left.fit(columns, target)
        self.right.fit(columns, target)
        self.names = [f"{left} and {right}" for left in self.left.names for right in self.right.names]

    def transform(self, columns: Arrays) -> np.ndarray:
        left, right = self.left.transform(columns), self.right.transform(columns)
        return np.asarray(left[:, :, None] * right[:, None, :]).reshape(len(left), -1)

    def write(self, graph: Graph, inputs: Mapping[str, str]) -> str:
        left = graph.add("Unsqueeze", self.left.write(graph, inputs), graph.constant([2], np.int64))
        right = graph.add("Unsqueeze", self.right.write(graph, inputs), graph.constant([1], np.int64))
        shape = graph.constant([-1, len(self.names)], np.int64)
        return graph.add("Reshape", graph.add("Mul", left, right), shape)


class Features:
    """Concatenates the features of all blocks."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = list(blocks)

    def fit_transform(self, columns: Arrays, target: np.ndarray) -> np.ndarray:
        return np.hstack([block.fit_transform(columns, target) for block in self.blocks])

    def transform(self, columns: Arrays) -> np.ndarray:
        return np.hstack([block.transform(columns) for block in self.blocks])

    @property
    def names(self) -> list[str]:
        return [name for block in self.blocks for name in block.names]

    def write(self, graph: Graph, inputs: Mapping[str, str]) -> str:
        written = [block.write(graph, inputs) for block in self.blocks if block.names]
        return graph.add("Concat", *written, axis=1) if len(written) > 1 else written[0]


def text_type(is_text: bool) -> int:
    """Returns the element type of a column's input."""
    return int(TensorProto.STRING if is_text else TensorProto.FLOAT)
