"""What capstones on tables share: repeated folds, importance of columns, the table as a problem, the rebuilt model."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dlcommon.runtime.arrays import Arrays
from dlcommon.runtime.config import RunConfig
from dlcommon.runtime.data import DataSet, Table, own_files
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.saved_run import SavedRun
from dlcommon.runtime.tables.columns import as_arrays, describe
from dlcommon.runtime.tables.cross_validation import Fold, corrected_standard_error, permutation_importance, rows_of
from dlcommon.runtime.tables.problem import TableProblem
from dlcommon.runtime.tables.rebuilding import training_data

FRAME = pd.DataFrame({"id": [1, 2, 3], "size": [10.0, 20.0, 30.0], "price": [1.0, 2.0, 3.0]})


def problem(train: pd.DataFrame = FRAME, test: pd.DataFrame | None = None) -> TableProblem:
    table = Table(train, test, "price", "id")
    columns = describe(table.train[table.features])
    return TableProblem(table, columns, as_arrays(table.train, columns))


class Loss:
    """The mean squared error of the true coefficients."""

    def __init__(self, target: np.ndarray) -> None:
        self.target = target

    def __call__(self, rows: Arrays) -> float:
        return float(np.square(rows["signal"] + 0.5 * rows["half"] - self.target).mean())


def test_only_what_the_answer_depends_on_is_important() -> None:
    random = np.random.default_rng(0)
    arrays = {name: random.normal(size=(200, 1)) for name in ("signal", "half", "noise")}
    target = arrays["signal"] + 0.5 * arrays["half"]
    rows = np.arange(200)
    folds = [(rows[rows % 2 != part], rows[rows % 2 == part]) for part in (0, 1)]

    def fit(fold: Fold) -> Loss:
        return Loss(target[fold[1]])

    parts = {"signal": ["signal"], "half": ["half"], "noise": ["noise"], "both": ["signal", "half"]}
    rises = permutation_importance(arrays, folds, parts, fit, seed=0)
    assert list(rises) == ["both", "signal", "half", "noise"]
    assert rises["noise"] == 0
    # Shuffling an independent column with variance v doubles it in the mean squared error: 2 v · coefficient².
    assert rises["signal"] == pytest.approx(2, rel=0.3)
    assert rises["half"] == pytest.approx(0.5, rel=0.3)


def test_the_standard_error_of_overlapping_folds_is_larger_than_that_of_independent_scores() -> None:
    scores = [0.80, 0.84, 0.78, 0.82, 0.81, 0.79]
    expected = np.sqrt((1 / 6 + 1 / 2) * np.var(scores, ddof=1))  # three folds: one test row for two training rows
    assert corrected_standard_error(scores, folds=3) == pytest.approx(expected)
    assert corrected_standard_error(scores[:1], folds=3) == 0


def test_a_fingerprint_is_of_the_training_rows_and_the_question() -> None:
    class Asked(TableProblem):
        def question_facts(self) -> list[str]:
            return ["is it dear?"]

    first = problem()
    assert first.fingerprint == problem(FRAME.copy()).fingerprint
    assert first.fingerprint != problem(FRAME.assign(size=[10.0, 20.0, 31.0])).fingerprint
    assert first.fingerprint != Asked(first.table, first.columns, first.arrays).fingerprint


def test_a_submission_names_each_test_row() -> None:
    test = pd.DataFrame({"id": [7, 9], "size": [1.0, 2.0]})
    assert problem(test=test).submission(test, np.array([0.5, 1.5])) == b"id,price\n7,0.5\n9,1.5\n"


def test_rows_of_selects_the_same_rows_of_every_column() -> None:
    assert rows_of({"a": np.arange(4), "b": -np.arange(4)}, np.array([3, 1]))["b"].tolist() == [-3, -1]


def test_a_model_is_rebuilt_from_unchanged_data_only(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a\n1\n")
    unread: Any = None
    dataset = DataSet("rows", LocalizedText("rows", "rows"), "", "", "", unread, files=("rows.csv",))
    own = own_files(dataset, path.parent)
    saved = SavedRun(path.parent, RunConfig(), "rows", {"data": {"fingerprint": own.fingerprint()}})
    assert training_data(saved, own) is own
    with pytest.raises(UserError, match="rebuilt, is not on this machine"):
        training_data(SavedRun(path.parent, RunConfig(), "titanic", saved.summary))
    path.write_text("a\n2\n")
    with pytest.raises(UserError, match=r"has changed since .* train again"):
        training_data(saved, own_files(dataset, path.parent))
