"""Features computed in NumPy and as ONNX nodes are the same, whatever is missing."""

import numpy as np
import onnxruntime
import pytest
from dlcommon.runtime import data
from dlcommon.runtime.data import Table
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.tables.columns import Column, as_arrays, describe
from dlcommon.runtime.tables.features import Features, text_type
from dlcommon.runtime.tables.graph import Graph
from house_prices.expressions import Expression, at_least, grade, known_or, logarithm, number, square_root
from house_prices.houses import GROUPS, ImputedColumns, formulas, house_blocks
from house_prices.levels import SMOOTHING, AmongNeighbours
from house_prices.problem import pose

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def table() -> Table:
    located = data.find("ames")
    assert located is not None
    loaded: Table = located.load()
    return loaded


def computed_by_onnx(expression: Expression, columns: Arrays) -> np.ndarray:
    graph = Graph()
    used = {name: columns[name] for name in expression.sources}
    output = expression.write(graph, {name: name for name in used})
    model = graph.model({name: text_type(v.dtype == object) for name, v in used.items()}, {"result": (output, 1)})
    result: np.ndarray = onnxruntime.InferenceSession(model.SerializeToString()).run(None, used)[0]
    return result


def with_gaps(arrays: Arrays, seed: int, share: float = 0.1) -> Arrays:
    random = np.random.default_rng(seed)
    result = {}
    for name, values in arrays.items():
        gone = random.random(values.shape) < share
        result[name] = np.where(gone, "" if values.dtype == object else np.float32(np.nan), values)
    return result


a, b = number("a"), number("b")
EXPRESSIONS: dict[str, Expression] = {
    "sum": a + b + 1.5,
    "difference": a - b,
    "product": a * b * 0.001,
    "quotient": a / at_least(b, 1),
    "greater": a > b,
    "known or": known_or(a, b),
    "logarithm": logarithm(a),
    "square root": square_root(b - 100),
    "grade": grade("c", {"Ex": 5, "Gd": 4}) * a,
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_is_the_same_in_both(name: str) -> None:
    random = np.random.default_rng(0)
    columns = {
        "a": random.normal(1000, 800, (300, 1)).astype(np.float32),
        "b": random.integers(0, 300, (300, 1)).astype(np.float32),
        "c": random.choice(np.array(["Ex", "Gd", "Po", "", "ü"], object), (300, 1)),
    }
    if name == "known or":
        columns["a"][::3] = np.nan
    expression = EXPRESSIONS[name]
    expected = expression.compute(columns)
    assert expected.dtype == np.float32
    assert np.isfinite(expected).all()
    assert expected.std() > 0
    np.testing.assert_array_equal(expected, computed_by_onnx(expression, columns))


def test_all_features_are_the_same_in_both_and_never_missing(table: Table) -> None:
    columns = [column for column in describe(table.train[table.features]) if column.kind != "text"]
    arrays = as_arrays(table.train, columns)
    training = {name: values[:2000] for name, values in arrays.items()}
    filled, features = ImputedColumns(columns), Features(house_blocks(columns))
    filled.fit(training)
    made = features.fit_transform(filled.transform(training), np.zeros(2000))
    assert made.shape == (2000, len(features.names))
    assert np.isfinite(made).all()
    rows = with_gaps({name: values[2000:] for name, values in arrays.items()}, seed=1)
    rows["Neighborhood"][0] = "Atlantis"
    expected = features.transform(filled.transform(rows))
    assert np.isfinite(expected).all()
    graph = Graph()
    inputs = filled.write(graph, {column.name: column.name for column in columns})
    kinds = {column.name: text_type(column.kind != "number") for column in columns}
    output = features.write(graph, inputs)
    model = graph.model(kinds, {"features": (output, len(features.names))})
    got = onnxruntime.InferenceSession(model.SerializeToString()).run(None, rows)[0]
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-3)  # logarithms are rounded to three decimals
    assert np.mean(got != expected) < 1e-3


def test_an_unknown_category_sets_no_flag(table: Table) -> None:
    columns = [column for column in describe(table.train[table.features]) if column.kind != "text"]
    arrays = as_arrays(table.train, columns)
    filled, features = ImputedColumns(columns), Features(house_blocks(columns))
    filled.fit(arrays)
    features.fit_transform(filled.transform(arrays), np.zeros(len(table.train)))
    row = {name: values[:1].copy() for name, values in arrays.items()}
    flags = [place for place, name in enumerate(features.names) if name.startswith("Neighborhood = ")]
    assert features.transform(filled.transform(row))[0, flags].sum() == 1
    row["Neighborhood"][0] = "Atlantis"
    assert features.transform(filled.transform(row))[0, flags].sum() == 0


def test_every_column_of_a_formula_belongs_to_one_group() -> None:
    grouped = [name for columns in GROUPS.values() for name in columns]
    assert len(grouped) == len(set(grouped))
    for name, expression in formulas().items():
        assert expression.sources <= set(grouped), name


def test_missing_numbers_become_the_training_rows_median() -> None:
    columns = [Column("LotArea", "number", 0, 3), Column("Street", "category", 0, 2, categories=("Pave", "Grvl"))]
    filled = ImputedColumns(columns)
    filled.fit({
        "LotArea": np.array([[1.0], [2], [9], [np.nan]], np.float32),
        "Street": np.array([["Pave"], [""], ["Grvl"], ["Pave"]], object),
    })  # fmt: skip
    got = filled.transform({"LotArea": np.array([[np.nan]], np.float32), "Street": np.array([[""]], object)})
    assert got["LotArea"][0, 0] == 2
    assert got["Street"][0, 0] == "Pave"


def test_a_table_that_lists_no_houses_is_refused(table: Table) -> None:
    without = Table(table.train.drop(columns="GrLivArea"), None, "SalePrice", None)
    with pytest.raises(UserError, match="needs the column GrLivArea"):
        pose(without)
    with pytest.raises(UserError, match="20 houses are too few"):
        pose(Table(table.train.head(20), None, "SalePrice", None))


def test_a_house_is_held_against_its_neighbourhood() -> None:
    def houses(places: str, value: float) -> Arrays:
        return {"Neighborhood": np.array([[p] for p in places], object), "a": np.full((len(places), 1), value, "f4")}

    cheap, dear = houses("A" * 20, 10), houses("B" * 20, 30)
    block = AmongNeighbours({"a, among neighbours": a})
    block.fit({name: np.vstack([cheap[name], dear[name]]) for name in cheap}, np.zeros(40))
    usual = (20 * 10 + SMOOTHING * 20) / (20 + SMOOTHING)  # drawn towards the town's 20
    np.testing.assert_allclose(block.transform(houses("AB?", 25))[:, 0], [25 - usual, usual - 15, 5], rtol=1e-6)
    assert block.sources_of_each() == [("a",)]
