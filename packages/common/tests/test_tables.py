"""What capstones on tables share."""

from collections.abc import Callable, Mapping
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dlcommon.runtime.data import DamagedDataError
from dlcommon.runtime.tables.columns import Column, as_arrays, describe, parse_rows
from dlcommon.runtime.tables.contributions import shapley_values
from dlcommon.runtime.tables.items import row_arrays, row_type
from pydantic import ValidationError

Arrays = dict[str, np.ndarray]


def table() -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "area": [10.0, 20.5, None, 40.0] * 10,
            "rooms": [1, 2, 3, 2] * 10,
            "kind": ["flat", "house", "flat", None] * 10,
            "note": [f"text {i}" for i in range(40)],
            "change": [-1.0, 1.0] * 20,
            "empty": [np.nan] * 40,
        }
    )
    return frame.astype({"kind": "str", "note": "str"})


def test_columns_are_what_they_hold() -> None:
    area, rooms, kind, note, change, empty = describe(table())
    assert (area.kind, area.whole, area.low, area.high, area.missing, area.typical) == (
        "number",
        False,
        10,
        40,
        0.25,
        20.5,
    )
    assert (rooms.kind, rooms.whole, rooms.distinct) == ("number", True, 3)
    assert (kind.kind, kind.categories, kind.typical) == ("category", ("flat", "house"), "flat")
    assert (note.kind, note.categories) == ("text", ())
    assert (change.low, empty.distinct, empty.typical) == (-1, 0, None)
    for column in (area, kind, note):
        assert Column.from_json(column.as_json()) == column


def test_arrays_of_rows_and_of_one_row_agree() -> None:
    frame, columns = table(), describe(table())
    arrays = as_arrays(frame, columns)
    assert {name: (values.dtype.kind, values.shape) for name, values in arrays.items()} == {
        name: ("O" if name in ("kind", "note") else "f", (40, 1)) for name in frame
    }
    for place in (0, 2, 3):
        values = {name: None if pd.isna(value) else value for name, value in frame.iloc[place].items()}
        for name, array in row_arrays(values, columns).items():
            np.testing.assert_array_equal(array, arrays[name][place])
    assert (as_arrays(frame[["area"]], columns)["note"] == "").all()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("-1,1,flat,a,0,", "row 3: area is -1, but is never negative"),
        ("1,1,castle,a,0,", "row 3: kind is 'castle', none of flat, house"),
        ("big,1,flat,a,0,", "row 3: area is 'big', which is not a number"),
        ("1,1,flat,a,0", "row 3: has 5 cells"),
    ],
)
def test_rows_that_cannot_be_are_named(line: str, problem: str) -> None:
    content = f"area,rooms,kind,note,change,empty\n1,2,flat,x,-5,\n{line}\n".encode()
    with pytest.raises(DamagedDataError, match=problem):
        parse_rows(content, Path("rows.csv"), describe(table()), print)


def test_rows_that_can_be_are_read() -> None:
    content = b"note,area,rooms,kind,change,extra\nx,,2,,-5,1\n"
    said: list[str] = []
    frame = parse_rows(content, Path("rows.csv"), describe(table()), said.append)
    assert list(frame.columns) == list(table().columns)[:-1]
    assert said == ["rows.csv has no empty, so they count as not known"]
    assert frame.index.tolist() == [2]
    assert frame[["area", "kind"]].isna().all(axis=None)
    with pytest.raises(DamagedDataError, match="has no column 'area'"):
        parse_rows(b"extra\n1\n", Path("rows.csv"), describe(table()), said.append)


def test_a_row_as_an_item_keeps_names_that_python_has_none_for() -> None:
    columns = [
        Column("1st floor (m²)", "number", 0.0, 9, low=0.0),
        Column("class", "category", 0.0, 2, categories=("a", "b")),
    ]
    made = row_type("House", columns, {"class": "The kind."})
    row = made.model_validate({"1st floor (m²)": 3})
    assert row.values() == {"1st floor (m²)": 3.0, "class": None}
    assert "The kind. One of a, b." in str(made.model_json_schema())
    for bad, reason in (
        ({"1st floor (m²)": -3}, "never negative"),
        ({"class": "c"}, "none of a, b"),
        ({"klass": "a"}, "Extra"),
    ):
        with pytest.raises(ValidationError, match=reason):
            made.model_validate(bad)


def by_definition(
    predict: Callable[[Mapping[str, np.ndarray]], np.ndarray],
    row: Arrays,
    background: Arrays,
    players: dict[str, list[str]],
) -> np.ndarray:
    """Shapley's: the mean gain over all orders in which players may come."""

    def worth(coalition: tuple[str, ...]) -> float:
        inside = {name for player in coalition for name in players[player]}
        mixed = {n: np.broadcast_to(row[n], v.shape) if n in inside else v for n, v in background.items()}
        return float(predict(mixed)[:, 0].mean())

    values = np.zeros(len(players))
    orders = list(permutations(players))
    for order in orders:
        for place, player in enumerate(order):
            values[list(players).index(player)] += worth(order[: place + 1]) - worth(order[:place])
    return values / len(orders)


def test_shapley_values_are_those_of_the_definition() -> None:
    random = np.random.default_rng(0)
    background = {name: random.normal(size=(7, 1)) for name in "abc"} | {
        "text": np.array([["x"], ["y"], ["x"], ["z"], ["y"], ["x"], ["z"]], dtype=object)
    }
    row = {name: np.array([1.5]) for name in "abc"} | {"text": np.array(["y"], dtype=object)}
    players = {"first": ["a"], "pair": ["b", "c"], "text": ["text"]}

    def predict(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        flag = (arrays["text"] == "y").astype(float)
        result: np.ndarray = np.tanh(arrays["a"] * arrays["b"] + flag * arrays["c"]) + arrays["a"] ** 2
        return result

    values, base = shapley_values(predict, row, background, players)
    np.testing.assert_allclose(values[:, 0], by_definition(predict, row, background, players), rtol=1e-12)
    total = predict({name: value[None] for name, value in row.items()})[0, 0]
    assert base[0] + values.sum() == pytest.approx(total)


def test_of_a_linear_model_they_are_its_terms() -> None:
    random = np.random.default_rng(1)
    weights = {"a": 2.0, "b": -3.0, "c": 0.0}
    background = {name: random.normal(size=(20, 1)) for name in weights}
    row = {name: np.array([0.7]) for name in weights}

    def predict(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        total: np.ndarray = np.sum([w * arrays[n] for n, w in weights.items()], axis=0)
        return total

    values, _ = shapley_values(predict, row, background, {n: [n] for n in weights})
    expected = [w * (0.7 - background[n].mean()) for n, w in weights.items()]
    np.testing.assert_allclose(values[:, 0], expected, atol=1e-12)


def test_players_must_cover_the_columns() -> None:
    background = {"a": np.zeros((2, 1)), "b": np.zeros((2, 1))}
    row = {"a": np.zeros(1), "b": np.zeros(1)}
    with pytest.raises(ValueError, match="exactly one player"):
        shapley_values(lambda arrays: arrays["a"], row, background, {"a": ["a"]})
    many = {str(i): np.zeros((2, 1)) for i in range(13)}
    with pytest.raises(ValueError, match="13 players"):
        shapley_values(lambda arrays: arrays["0"], {k: v[0] for k, v in many.items()}, many, {k: [k] for k in many})
