"""Bounds of options, stated in their types: `dropout: Annotated[float, Ge(0), Lt(1)] = 0.1`."""

import math
from inspect import get_annotations
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen

__all__ = [
    "Count",
    "Fraction",
    "Ge",
    "Gt",
    "Le",
    "Lt",
    "MinLen",
    "NotNegative",
    "Positive",
    "check_bounds",
]

Count = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Lt(1)]

KINDS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a text"}
"""What a value of a plain type must be, in words."""


def check_bounds(options: Any) -> None:
    """Checks every field of a dataclass against the bounds in its type, including the types that base classes gave it.

    A float must be finite as well.

    Raises:
        ValueError: a value is out of bounds; the message names the field, the bounds and the value.
    """
    for owner in reversed(type(options).__mro__):
        for name, hint in get_annotations(owner, eval_str=True).items():
            _check(name, getattr(options, name), hint)


def _check(name: str, value: Any, hint: Any) -> None:
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Annotated:
        _check(name, value, parts[0])
        # Marks of tyro's say how a flag is typed, not what it may be.
        bounds = [_bound(mark, value) for mark in parts[1:] if not type(mark).__module__.startswith("tyro.")]
        if not all(within for _, within in bounds):
            raise ValueError(f"{name} must be {' and '.join(words for words, _ in bounds)}, not {value}")
    elif kind in (Union, UnionType) and value is not None:
        for part in parts:
            if part is not type(None):
                _check(name, value, part)
    elif kind is Literal:
        if value not in parts:
            raise ValueError(f"{name} must be one of {', '.join(map(str, parts))}, not {value}")
    elif kind is tuple:
        if not isinstance(value, tuple):
            raise ValueError(f"{name} must be a list, not {value}")
        items = [parts[0]] * len(value) if parts[1:] == (...,) else parts
        if len(items) != len(value):
            raise ValueError(f"{name} must be of {len(items)} values, not {value}")
        for item, part in zip(value, items, strict=True):
            _check(name, item, part)
    elif hint in KINDS and not _is(value, hint):
        raise ValueError(f"{name} must be {KINDS[hint]}, not {value}")


def _is(value: Any, kind: type) -> bool:
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float)) and abs(value) < math.inf if kind is float else isinstance(value, kind)


def _bound(mark: Any, value: Any) -> tuple[str, bool]:
    """Returns a bound in words, and whether the value is within it."""
    match mark:
        case Ge(low):
            return f"at least {low}", value >= low
        case Gt(low):
            return f"above {low}", value > low
        case Le(high):
            return f"at most {high}", value <= high
        case Lt(high):
            return f"below {high}", value < high
        case MinLen(count):
            return f"of at least {count} value{'s' if count > 1 else ''}", len(value) >= count
    raise TypeError(f"{mark!r} is no bound that options are checked for")
