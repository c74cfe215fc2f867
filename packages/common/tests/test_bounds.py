"""Bounds that the types of options state."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from dlcommon.runtime.bounds import Count, Fraction, Ge, Gt, Lt, MinLen, NotNegative, Positive, check_bounds


@dataclass(frozen=True)
class Options:
    seed: Annotated[int, Ge(0), Lt(10)] = 0
    epochs: Positive = 1.0
    dropout: Fraction = 0.0
    decay: NotNegative = 0.0
    widths: tuple[Count, Count] = (1, 2)
    stages: Annotated[tuple[Annotated[float, Gt(0), Lt(1)], ...], MinLen(1)] = (0.5,)
    patience: Count | None = None
    model: Literal["a", "b"] = "a"
    name: str | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        check_bounds(self)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"seed": 9, "epochs": 1e-9, "dropout": 0.999, "decay": 0, "patience": 1, "name": "n", "compile": True},
        {"epochs": 3, "stages": (0.1, 0.2, 0.9), "widths": (7, 1)},
    ],
    ids=["defaults", "at the bounds", "whole numbers where floats are asked for"],
)
def test_what_is_within_is_taken(values: dict[str, Any]) -> None:
    Options(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": -1}, "seed must be at least 0 and below 10, not -1"),
        ({"seed": 10}, "seed must be at least 0 and below 10, not 10"),
        ({"seed": True}, "seed must be a whole number, not True"),
        ({"seed": 1.5}, "seed must be a whole number, not 1.5"),
        ({"epochs": 0.0}, "epochs must be above 0, not 0.0"),
        ({"epochs": float("inf")}, "epochs must be a finite number, not inf"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, not 1.0"),
        ({"dropout": float("nan")}, "dropout must be a finite number, not nan"),
        ({"decay": "much"}, "decay must be a finite number, not much"),
        ({"widths": (1,)}, r"widths must be of 2 values, not \(1,\)"),
        ({"widths": (1, 0)}, "widths must be at least 1, not 0"),
        ({"stages": (0.5, 1.0)}, "stages must be above 0 and below 1, not 1.0"),
        ({"stages": ()}, r"stages must be of at least 1 value, not \(\)"),
        ({"patience": 0}, "patience must be at least 1, not 0"),
        ({"name": 3}, "name must be a text, not 3"),
        ({"compile": 1}, "compile must be true or false, not 1"),
    ],
    ids=str,
)
def test_what_is_outside_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        Options(**values)


def test_a_subclass_with_another_default_keeps_the_bounds() -> None:
    @dataclass(frozen=True)
    class Others(Options):
        dropout: float = 0.5

    assert Others().dropout == 0.5
    with pytest.raises(ValueError, match="dropout must be at least 0 and below 1, not 2"):
        Others(dropout=2)


def test_an_unknown_bound_is_a_mistake_of_the_programmer() -> None:
    @dataclass(frozen=True)
    class Wrong:
        rate: Annotated[float, "small"] = 0.0

    with pytest.raises(TypeError, match="'small' is no bound"):
        check_bounds(Wrong())
