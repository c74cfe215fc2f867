"""Formulas over columns, each written once: computed in NumPy and as ONNX nodes, equal to the last bit of float32.

    area = number("1stFlrSF") + number("2ndFlrSF")
    blocks = [Formulas({"area per room": area / at_least(number("TotRmsAbvGrd"), 1)})]

All values are float32 [rows, 1].
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Union

import numpy as np
from dlcommon.runtime.arrays import Arrays
from dlcommon.runtime.tables.features import Block, rounded_logarithm, write_rounded_logarithm
from dlcommon.runtime.tables.graph import Graph

Operand = Union["Expression", float]


@dataclass(frozen=True)
class Expression:
    """Computes a number from columns."""

    sources: frozenset[str]
    """The columns."""
    compute: Callable[[Arrays], np.ndarray]
    write: Callable[[Graph, Mapping[str, str]], str]

    def __add__(self, other: Operand) -> "Expression":
        return _combined(np.add, "Add", self, other)

    def __sub__(self, other: Operand) -> "Expression":
        return _combined(np.subtract, "Sub", self, other)

    def __mul__(self, other: Operand) -> "Expression":
        return _combined(np.multiply, "Mul", self, other)

    def __truediv__(self, other: Operand) -> "Expression":
        return _combined(np.divide, "Div", self, other)

    def __gt__(self, other: Operand) -> "Expression":
        """Computes 1 where it is greater, else 0."""
        return _combined(np.greater, "Greater", self, other)


def number(column: str) -> Expression:
    """Takes a column of numbers as it is."""
    return Expression(frozenset({column}), lambda columns: columns[column], lambda graph, inputs: inputs[column])


def grade(column: str, values: Mapping[str, float]) -> Expression:
    """Maps a text to the number that stands for it; any other text to 0."""

    def compute(columns: Arrays) -> np.ndarray:
        return np.array([[values.get(text, 0.0)] for text in columns[column][:, 0]], np.float32).reshape(-1, 1)

    return Expression(frozenset({column}), compute, lambda graph, inputs: graph.lookup(inputs[column], values, 0.0))


def constant(value: float) -> Expression:
    """Takes the same number in every row."""
    return Expression(
        frozenset(), lambda columns: np.full((1, 1), value, np.float32), lambda graph, inputs: graph.constant([[value]])
    )


def at_least(value: Operand, floor: Operand) -> Expression:
    """Takes the greater of two."""
    return _combined(np.maximum, "Max", value, floor)


def known_or(value: Expression, otherwise: Expression) -> Expression:
    """Takes the first where it is not NaN, else the second."""

    def compute(columns: Arrays) -> np.ndarray:
        first = value.compute(columns)
        return np.where(np.isnan(first), otherwise.compute(columns), first).astype(np.float32)

    def write(graph: Graph, inputs: Mapping[str, str]) -> str:
        first = value.write(graph, inputs)
        return graph.add("Where", graph.add("IsNaN", first), otherwise.write(graph, inputs), first)

    return Expression(value.sources | otherwise.sources, compute, write)


def logarithm(value: Expression) -> Expression:
    """Computes log(1 + x) to three decimals, so that two runtimes agree on a tree's side of it."""
    return Expression(
        value.sources,
        lambda columns: rounded_logarithm(value.compute(columns)),
        lambda graph, inputs: write_rounded_logarithm(graph, value.write(graph, inputs)),
    )


def square_root(value: Expression) -> Expression:
    """Takes the square root, 0 below zero."""
    return Expression(
        value.sources,
        lambda columns: np.sqrt(np.maximum(value.compute(columns), 0)),
        lambda graph, inputs: graph.add("Sqrt", graph.add("Relu", value.write(graph, inputs))),
    )


class Formulas(Block):
    """Computes named expressions side by side."""

    def __init__(self, expressions: Mapping[str, Expression]) -> None:
        self.expressions, self.names = dict(expressions), list(expressions)
        self.sources = tuple(sorted(frozenset().union(*(e.sources for e in expressions.values()))))

    def sources_of_each(self) -> list[tuple[str, ...]]:
        return [tuple(sorted(expression.sources)) for expression in self.expressions.values()]

    def transform(self, columns: Arrays) -> np.ndarray:
        return np.hstack([expression.compute(columns) for expression in self.expressions.values()])

    def write(self, graph: Graph, inputs: Mapping[str, str]) -> str:
        return graph.add("Concat", *[e.write(graph, inputs) for e in self.expressions.values()], axis=1)


def _combined(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray], operator: str, left: Operand, right: Operand
) -> Expression:
    first, second = (side if isinstance(side, Expression) else constant(side) for side in (left, right))

    def compute(columns: Arrays) -> np.ndarray:
        return function(first.compute(columns), second.compute(columns)).astype(np.float32)

    def write(graph: Graph, inputs: Mapping[str, str]) -> str:
        result = graph.add(operator, first.write(graph, inputs), second.write(graph, inputs))
        return graph.cast(result) if operator == "Greater" else result

    return Expression(first.sources | second.sources, compute, write)
