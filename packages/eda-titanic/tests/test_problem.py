"""Which question a table asks, and what is said of tables that ask none."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dlcommon.runtime.data import Table, find
from dlcommon.runtime.errors import UserError
from dlcommon.testing.commands import environment, run, script
from eda_titanic.config import Config
from eda_titanic.data import own_table
from eda_titanic.problem import pose

ROWS = 60


def table(**columns: object) -> Table:
    return Table(pd.DataFrame({"x": np.arange(ROWS) % 7, **columns}), None, "y", None)


def test_classes_of_texts_and_of_numbers() -> None:
    assert pose(table(y=["b", "a", "c"] * 20)).classes == ["a", "b", "c"]
    assert pose(table(y=[3, 1] * 30)).classes == ["1", "3"]


def test_a_number_of_many_values_is_split_at_its_median() -> None:
    problem = pose(table(y=np.arange(ROWS) + 0.5))
    assert problem.classes == ["at most 30", "above 30"]
    assert np.bincount(problem.target).tolist() == [30, 30]
    assert problem.question == "is y above its median of 30?"


def test_passengers_are_recognized() -> None:
    located = find("titanic-sample")
    assert located is not None
    problem = pose(located.load())
    assert problem.classes == ["died", "survived"]
    assert problem.groups is not None
    assert problem.target.sum() == 450


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (["a"] * ROWS, "needs 10 rows"),
        (["a"] * (ROWS - 3) + ["b"] * 3, "'b' only 3"),
        ([f"text {i}" for i in range(ROWS)], "60 different values"),
        ([None] + ["a", "b"] * 29 + ["a"], "y is missing in 1 rows"),
    ],
)
def test_what_cannot_be_asked_is_said(values: list[object], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        pose(table(y=pd.Series(values, dtype="str")))


def test_an_own_table_is_a_data_set(tmp_path: Path) -> None:
    path = tmp_path / "my data (1).csv"
    pd.DataFrame({"n": np.arange(1, ROWS + 1), "x": np.arange(ROWS) % 5, "y": ["p", "q"] * 30}).to_csv(
        path, index=False
    )
    located = own_table(path, "y")
    assert located.name == "own-my-data--1"
    loaded = located.load()
    assert loaded.identifier == "n"  # it counts the rows
    assert loaded.features == ["x"]
    with pytest.raises(UserError, match=r"--target z: .* its columns are n, x, y"):
        own_table(path, "z").load()
    with pytest.raises(UserError, match="is not a file"):
        own_table(tmp_path / "absent.csv", "y")


def test_a_sample_of_a_long_table_still_knows_what_counts_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text("n,x,y\n" + "".join(f"{n},{n % 7},{n % 2}\n" for n in range(2000)))
    loaded = own_table(path, "y", rows=150).load()
    assert len(loaded.train) == 150
    assert loaded.identifier == "n"
    assert "2,000 rows; 150 of them, drawn at random, are read" in loaded.notes[0].en


def refused(path: Path, content: bytes, target: str) -> str:
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        pose(own_table(path, target).load())
    return str(caught.value)


def test_bad_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    assert "the file is empty; correct the file, or name another" in refused(path, b"", "y")
    assert "row 3: is not UTF-8" in refused(path, b"x,y\n1,a\n\xff\x01,b\n", "y")
    assert "row 2: has 3 cells" in refused(path, b"x,y\n1,a,2\n", "y")
    assert "needs 10 rows" in refused(path, b"x,y\n1,a\n2,b\n", "y")


def test_a_target_without_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--csv FILE"):
        Config(target="y")
    with pytest.raises(ValueError, match="--csv needs --target"):
        Config(csv="own.csv")
    (tmp_path / "own.csv").write_bytes(b"")
    command = [script("eda-titanic"), "train", "--csv", str(tmp_path / "own.csv"), "--target", "y"]
    run(command, environment(tmp_path / "runs")).check_refusal(1, "the file is empty")


def test_a_table_that_tells_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("x,y\n" + ",a\n,b\n" * 30)
    command = [script("eda-titanic"), "train", "--csv", str(tmp_path / "own.csv"), "--target", "y"]
    run(command, environment(tmp_path / "runs")).check_refusal(1, "no column tells anything to predict y by")
    assert not list((tmp_path / "runs").glob("*/*"))
