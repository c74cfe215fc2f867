"""Every block computes the same in NumPy and as ONNX nodes, and knows nothing of the rows that it was not fitted on."""

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
from dlcommon.runtime.tables.features import Block, Features, Number, OneHot, Patterns, Product
from dlcommon.runtime.tables.graph import Graph
from eda_titanic.ladder import LADDER, TableModel, prepared
from eda_titanic.passengers import DECKS, TITLES, Age, CompanionFate, Family, Ticket, groups
from onnx import TensorProto

Arrays = dict[str, np.ndarray]
ROWS = 400
ODD_NAMES = ["", ",", "Null", "Sánchez, Señor. É", "Li\nLu, Mr. X", "A, B, Mrs. C", "x" * 300, 'O\'Neil, Ms. "Q"']


def passengers(seed: int, rows: int = ROWS) -> Arrays:
    random = np.random.default_rng(seed)
    titles = ["Mr.", "Mrs.", "Miss.", "Master.", "Dr.", "Mlle.", "Mr", "Miss"]
    surnames = ["Lee", "Braund", "van der Berg", "Ó Súilleabháin", "Li"]
    names = [f"{random.choice(surnames)}, {random.choice(titles)} {i}" for i in range(rows)]
    names[: len(ODD_NAMES)] = ODD_NAMES[:rows]

    def gaps(values: np.ndarray, share: float) -> np.ndarray:
        return np.where(random.random(rows) < share, np.nan, values).astype(np.float32)[:, None]

    def texts(values: list[str]) -> np.ndarray:
        return np.array(values, dtype=object)[:, None]

    return {
        "Name": texts(names),
        "Sex": texts([str(v) for v in random.choice(["male", "female", "", "?"], rows)]),
        "Pclass": gaps(random.integers(1, 4, rows), 0.05),
        "Age": gaps(random.uniform(0.4, 80, rows).round(1), 0.2),
        "SibSp": gaps(random.integers(0, 4, rows), 0.1),
        "Parch": gaps(random.integers(0, 3, rows), 0.1),
        "Ticket": texts([str(v) if v else "" for v in random.integers(0, 150, rows)]),
        "Fare": gaps(random.gamma(1, 30, rows).round(4), 0.1),
        "Cabin": texts([str(v) for v in random.choice(["", "C85", "B5 B7", "T", "G6"], rows)]),
        "Embarked": texts([str(v) for v in random.choice(["S", "C", "Q", ""], rows)]),
    }


def fates(seed: int, rows: int = ROWS) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, rows)


def as_onnx(block: Block, columns: Arrays) -> np.ndarray:
    graph = Graph()
    used = {name: columns[name] for name in block.sources}
    output = block.write(graph, {name: name for name in used})
    kinds = {n: int(TensorProto.STRING if v.dtype == object else TensorProto.FLOAT) for n, v in used.items()}
    model = graph.model(kinds, {"features": (output, len(block.names))})
    result: np.ndarray = onnxruntime.InferenceSession(model.SerializeToString()).run(None, used)[0]
    return result


BLOCKS: dict[str, Callable[[], Block]] = {
    "number": lambda: Number("Age"),
    "logarithm": lambda: Number("Fare", logarithm=True),
    "categories": lambda: OneHot("Sex"),
    "numbers as categories": lambda: OneHot("Pclass"),
    "titles": lambda: Patterns("Name", TITLES),
    "decks": lambda: Patterns("Cabin", DECKS),
    "product": lambda: Product(OneHot("Sex"), OneHot("Pclass")),
    "age": Age,
    "family": Family,
    "ticket": Ticket,
    "companions": CompanionFate,
}


@pytest.mark.parametrize("name", BLOCKS)
def test_numpy_and_onnx_agree(name: str) -> None:
    block = BLOCKS[name]()
    block.fit(passengers(0), fates(0))
    for columns in (passengers(0), passengers(1), passengers(2, 1), {k: v[:3] for k, v in passengers(3).items()}):
        expected, found = block.transform(columns), as_onnx(block, columns)
        assert expected.dtype == found.dtype == np.float32
        assert expected.shape == found.shape == (len(columns["Age"]), len(block.names))
        assert np.isfinite(expected).all()
        # A logarithm's last bit may fall on the other side of a rounding: three decimals, then.
        np.testing.assert_allclose(
            found, expected, rtol=1e-5, atol=1.1e-3 if "fare" in block.names or name == "logarithm" else 1e-5
        )


def test_titles_of_both_lists_are_read() -> None:
    names = ["Braund, Mr. Owen Harris", "Allen, Miss Elisabeth Walton", "Sagesser, Mlle. Emma", "Rice, Master. Eric",
             "Rothes, the Countess. of", "Cumings, Mrs. John (Florence)", "Mrozek, Dr. Mr"]  # fmt: skip
    flags = Patterns("Name", TITLES).transform({"Name": np.array(names, dtype=object)[:, None]})
    found = [[title for title, flag in zip(TITLES, row, strict=True) if flag] for row in flags]
    assert found == [["Mr"], ["Miss"], ["Miss"], ["Master"], [], ["Mrs"], []]


def test_own_fate_is_not_among_own_features() -> None:
    columns, target = passengers(4), fates(4)
    block = CompanionFate()
    block.average = 0.5
    before = CompanionFate().fit_transform(columns, target)
    for row in range(20, 60):
        changed = target.copy()
        changed[row] = 1 - changed[row]
        after = CompanionFate().fit_transform(columns, changed)
        # The average fate moves by 1/n; beyond that, nothing of the row's own may have changed.
        assert np.abs(after[row] - before[row]).max() < 2 / ROWS * before[row][[1, 3]].max() + 1e-6
        assert (after[row, [1, 3]] == before[row, [1, 3]]).all()


def test_a_random_fate_teaches_nothing_about_companions() -> None:
    """With labels drawn by lot, features made of the others' fate must not predict one's own."""
    columns, target = passengers(5, 3000), fates(6, 3000)
    made = CompanionFate().fit_transform(columns, target)[:, 0]
    known = made != 0
    assert known.sum() > 2500
    assert abs(np.corrcoef(made[known], target[known])[0, 1]) < 0.08


def test_companions_count_whom_they_should() -> None:
    columns = {name: values[:5].copy() for name, values in passengers(7).items()}
    columns["Ticket"][:, 0] = ["A", "A", "A", "B", ""]
    columns["SibSp"][:, 0] = columns["Parch"][:, 0] = 0
    target = np.array([1, 1, 0, 1, 0])
    block = CompanionFate()
    own = block.fit_transform(columns, target)
    assert own[:, 1].tolist() == [2, 2, 2, 0, 0]
    average = 3 / 5
    assert own[0, 0] == pytest.approx((1 - 2 * average) / 2.5)  # one survivor of two others
    assert own[2, 0] == pytest.approx((2 - 2 * average) / 2.5)
    new = {name: values[:1].copy() for name, values in columns.items()}
    assert block.transform(new)[0, :2].tolist() == pytest.approx([(2 - 3 * average) / 3.5, 3])


def test_every_row_comes_again_without_its_companions() -> None:
    columns, target = passengers(8), fates(8)
    features = Features([Family(), CompanionFate()])
    made, labels = prepared(features, columns, target)
    assert len(made) == 2 * ROWS
    assert (labels[:ROWS] == labels[ROWS:]).all()
    assert (made[:ROWS, :3] == made[ROWS:, :3]).all()
    assert (made[ROWS:, 3:] == 0).all()
    assert made[:ROWS, 3:].any()


def test_groups_join_ticket_and_family() -> None:
    columns = {name: values[:6].copy() for name, values in passengers(9).items()}
    columns["Ticket"][:, 0] = ["A", "A", "B", "C", "", ""]
    columns["Name"][:, 0] = ["Lee, Mr. A", "Kim, Mr. B", "Kim, Miss. C", "Lee, Mr. D", "Roe, Mr. E", "Roe, Mr. F"]
    columns["Pclass"][:, 0] = 3
    columns["SibSp"][:, 0] = [0, 1, 1, 0, 0, 0]
    columns["Parch"][:, 0] = 0
    found = groups(columns)
    assert found[0] == found[1] == found[2]
    assert len(set(found)) == 4


def test_the_whole_model_agrees_with_its_graph() -> None:
    from dlcommon.runtime.tables.columns import Column

    columns, target = passengers(10), fates(10)
    kinds = {"Name": "text", "Ticket": "text", "Cabin": "text", "Sex": "category", "Embarked": "category"}
    described = [
        Column(name, kinds.get(name, "number"), 0.1, 4, low=0, categories=("male",))  # type: ignore[arg-type]
        for name in columns
    ]
    model = TableModel(described, LADDER, dict.fromkeys(LADDER, 0), companions=True, seed=0).fit(columns, target)
    session = onnxruntime.InferenceSession(model.to_onnx(2).SerializeToString())
    for rows in (columns, passengers(11), passengers(12, 1)):
        found = session.run(None, rows)[0]
        np.testing.assert_allclose(found, model.predict_proba(rows), atol=1e-5)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
