"""A row gets one answer, whether it comes by the page, by REST, by `predict` or in the submission."""

import csv
import io
import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dlcommon.runtime.data import Table, titanic
from dlcommon.runtime.export.onnx_file import set_metadata
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.tables.columns import as_arrays
from dlcommon.testing.service_answers import batched_answers
from dlcommon.testing.table_answers import check_equal_answers
from eda_titanic.capstone import CAPSTONE
from eda_titanic.data import own_table
from eda_titanic.importance import background, players_for
from eda_titanic.ladder import TableModel
from eda_titanic.page import predictions
from eda_titanic.problem import Problem, pose
from eda_titanic.service import RowService
from eda_titanic.train import submission
from pydantic import ValidationError

RUNG = "logistic regression"


def fitted(table: Table) -> tuple[Problem, TableModel]:
    problem = pose(table)
    model = TableModel(problem.columns, [RUNG], {RUNG: 3}, companions=True, seed=0)
    return problem, model.fit(problem.arrays, problem.target)


def service_of(problem: Problem, model: TableModel, path: Path) -> RowService:
    graph = model.to_onnx(len(problem.classes))
    players = players_for(problem.columns, {})
    set_metadata(graph, {
        "capstone": CAPSTONE.name, "labels": json.dumps(problem.classes), "question": problem.question,
        "columns": json.dumps([column.as_json() for column in problem.columns]), "players": json.dumps(players),
        "background": json.dumps(background(problem, players, 0)), "importance": "{}",
    })  # fmt: skip
    path.write_bytes(graph.SerializeToString())
    return RowService(OnnxModel(path))


def passengers(count: int, seed: int) -> pd.DataFrame:
    """Passengers of whom some are called what means "not known" elsewhere, with white space around cells."""
    random = np.random.default_rng(seed)
    women = random.random(count) < 0.5
    return pd.DataFrame({
        "PassengerId": np.arange(count) + 1000 * seed,
        "Survived": (random.random(count) < np.where(women, 0.8, 0.2)).astype(int),
        "Pclass": random.integers(1, 4, count),
        "Name": ["Null" if n % 20 == 7 else f"{('NA', 'nan', ' Lee')[n % 3]}, {'Mrs' if woman else 'Mr'}. {n}"
                 for n, woman in enumerate(women)],
        "Sex": np.where(women, "female", " male"),
        "Age": [("" if n % 3 == 0 else f"{n % 70}.5") for n in range(count)],
        "SibSp": random.integers(0, 3, count),
        "Parch": random.integers(0, 3, count),
        "Ticket": random.choice(["007", "7", "NULL", "PC 1", "NA"], count),
        "Fare": [("" if n % 11 == 0 else f"{n}.25") for n in range(count)],
        "Cabin": random.choice(["", "NA", "C85", "n/a"], count),
        "Embarked": random.choice(["S", "C ", "Q", ""], count),
    })  # fmt: skip


def test_passengers(tmp_path: Path) -> None:
    passengers(200, 1).to_csv(tmp_path / "train.csv", index=False)
    # Another order of columns, and one that no model knows.
    passengers(60, 2).drop(columns="Survived").iloc[:, ::-1].assign(shoe=43).to_csv(tmp_path / "test.csv", index=False)
    table = titanic.load(tmp_path)
    problem, model = fitted(table)
    service = service_of(problem, model, tmp_path / "model.onnx")
    assert table.test is not None
    probabilities = model.predict_proba(as_arrays(table.test, problem.columns))[:, 1]
    submitted = list(csv.DictReader(io.StringIO(submission(problem, model, table.test).decode())))
    assert [row["Survived"] for row in submitted] == [str(int(p > 0.5)) for p in probabilities]
    check_equal_answers(
        CAPSTONE, service, tmp_path / "test.csv", partial(predictions, service), "P(survived)",
        lambda answer: float(answer["probabilities"]["survived"]), probabilities.tolist(), decimals=4,
    )  # fmt: skip


def test_a_users_own_table(tmp_path: Path) -> None:
    """Decimal commas, per cent, codes, dates, and a country that is called NA, which training takes for not known."""
    random = np.random.default_rng(0)

    def write(path: Path, count: int) -> None:
        size = random.random(count) * 100
        pd.DataFrame({
            "size": [f"{value:.2f}".replace(".", ",") for value in size],
            "share": [f"{value:.1f}%" for value in random.random(count) * 100],
            "code": random.choice(["007", "08", "7"], count),
            "since": random.choice(["2024-01-31T10:00:00+02:00", "2020-02-29 00:00:00Z", ""], count),
            "country": random.choice(["NA", "ZA", " KE", "n/a", ""], count),
            "y": np.where(size + 40 * random.random(count) > 70, "yes", "no"),
        }).to_csv(path, index=False)  # fmt: skip

    write(tmp_path / "own.csv", 200)
    write(tmp_path / "rows.csv", 50)
    problem, model = fitted(own_table(tmp_path / "own.csv", "y").load())
    kinds = {column.name: (column.kind, column.is_date) for column in problem.columns}
    assert kinds == {
        "size": ("number", False), "share": ("number", False), "code": ("category", False), "since": ("number", True),
        "country": ("category", False),
    }  # fmt: skip
    service = service_of(problem, model, tmp_path / "model.onnx")
    rows = own_table(tmp_path / "rows.csv", "y").load().train
    check_equal_answers(
        CAPSTONE, service, tmp_path / "rows.csv", partial(predictions, service), "P(yes)",
        lambda answer: float(answer["probabilities"]["yes"]),
        model.predict_proba(as_arrays(rows, problem.columns))[:, 1].tolist(), decimals=4,
    )  # fmt: skip
    (answer,) = batched_answers(service, {"size": 1e4, "since": "1950-01-01", "country": "NA", "explain": True})
    assert answer.unusual[0].startswith("size is 10000, outside what was trained on (")
    assert answer.unusual[1].startswith("since is 1950-01-01, outside what was trained on (2020-02-29 to 2024-01-31T")
    assert "country" in answer.unknown
    for item, reason in (
        ({"since": "yesterday"}, "since is 'yesterday', which is not a date such as 2024-01-01"),
        ({"since": 3}, "valid string"),
        ({"code": "9"}, "code is '9', none of"),
    ):
        with pytest.raises(ValidationError, match=reason):
            service.item.model_validate(item)
