"""Tools that can do no harm: arithmetic, conversion of units, and search in a few documents.

None of them runs code of the model's. A Python interpreter inside one's own process cannot be made safe by forbidding
names; it belongs into a container or a virtual machine of its own.
"""

import ast
import operator
from collections.abc import Callable, Mapping, Sequence

from dlcommon.llm.tools import Tool
from dlcommon.nlp.retrieval import BM25, search_terms

_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_LARGEST, _LONGEST = 1e15, 200
UNITS = {
    "km": ("length", 1000.0),
    "m": ("length", 1.0),
    "mi": ("length", 1609.344),
    "ft": ("length", 0.3048),
    "kg": ("mass", 1.0),
    "lb": ("mass", 0.45359237),
    "g": ("mass", 0.001),
}
"""Units by name: what they measure, and their size in meters or kilograms."""


def calculate(expression: str) -> float:
    """Evaluates +, −, ×, ÷ and parentheses by walking the syntax tree; nothing else is ever evaluated.

    Raises:
        ValueError: the expression is too long, holds anything else, or a result is too large.
        ZeroDivisionError: it divides by zero.
    """
    if len(expression) > _LONGEST:
        raise ValueError(f"an expression has at most {_LONGEST} characters, not {len(expression)}")
    try:
        tree = ast.parse(expression, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"{expression!r} is no arithmetic expression") from None
    return _evaluate(tree.body)


def _evaluate(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            result = float(value) if abs(value) <= _LARGEST else _LARGEST * 2
        case ast.BinOp(left, operation, right) if type(operation) in _BINARY:
            result = _BINARY[type(operation)](_evaluate(left), _evaluate(right))
        case ast.UnaryOp(ast.USub(), operand):
            result = -_evaluate(operand)
        case _:
            raise ValueError(f"{ast.unparse(node)!r} is not allowed; use numbers, + - * / and parentheses")
    if abs(result) > _LARGEST:
        raise ValueError(f"numbers above {_LARGEST:g} are not computed")
    return result


def convert(value: float, unit: str, to: str) -> float:
    """Converts between units of the same kind.

    Raises:
        ValueError: a unit is unknown, or the two measure different things.
    """
    for name in (unit, to):
        if name not in UNITS:
            raise ValueError(f"unit {name!r} is unknown; there are {', '.join(UNITS)}")
    (kind, size), (other, other_size) = UNITS[unit], UNITS[to]
    if kind != other:
        raise ValueError(f"{unit} measures {kind}, {to} {other}")
    return value * size / other_size


def document_search(documents: Sequence[str]) -> Callable[[str], str]:
    """Returns a function that finds the best document for a query by BM25."""
    index = BM25([search_terms(document) for document in documents])

    def search(query: str) -> str:
        scores = index.scores(search_terms(query))
        return documents[int(scores.argmax())] if scores.max() > 0 else "nothing found"

    return search


def _parameters(**properties: Mapping[str, object]) -> dict[str, object]:
    """Returns the schema of arguments that are all required."""
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def sandbox_tools(documents: Sequence[str]) -> list[Tool]:
    """Returns the three tools; search looks in these documents."""
    unit = {"enum": [*UNITS]}
    return [
        Tool(
            "calculate",
            "Computes an arithmetic expression with + - * / and parentheses.",
            _parameters(expression={"type": "string", "minLength": 1, "maxLength": 24}),
            lambda expression: f"{calculate(expression):g}",
        ),
        Tool(
            "convert",
            "Converts a length or a mass to another unit.",
            _parameters(value={"type": "number"}, unit=unit, to=unit),
            lambda value, unit, to: f"{convert(value, unit, to):g}",
        ),
        Tool(
            "search",
            "Finds the document that fits a query best.",
            _parameters(query={"type": "string", "minLength": 1, "maxLength": 24}),
            document_search(documents),
        ),
    ]
