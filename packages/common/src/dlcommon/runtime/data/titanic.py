"""Loads Titanic, as Kaggle's competition gives it: 891 passengers with their fate, 418 without."""

from pathlib import Path
from typing import TYPE_CHECKING

from dlcommon.runtime.data.dataset import DataSet
from dlcommon.runtime.data.table import Kind, Table, check, read_csv
from dlcommon.runtime.localization import LocalizedText

if TYPE_CHECKING:
    import pandas as pd

COLUMNS: dict[str, Kind] = {
    "PassengerId": "number",
    "Pclass": "number",
    "Name": "text",
    "Sex": "text",
    "Age": "number",
    "SibSp": "number",
    "Parch": "number",
    "Ticket": "text",
    "Fare": "number",
    "Cabin": "text",
    "Embarked": "text",
}


def read_passengers(path: Path, kinds: dict[str, Kind]) -> "pd.DataFrame":
    """Reads passengers, in the columns of `kinds`; only an empty cell is missing, since people may be named "Null".

    Raises:
        DamagedDataError: the file is damaged or a value is impossible; says in which line.
    """
    frame = read_csv(path, kinds, missing=("",))
    check(frame, path, "PassengerId", ~frame["PassengerId"].duplicated(), "a number of its own")
    check(frame, path, "Pclass", frame["Pclass"].isin([1, 2, 3]), "1, 2 or 3")
    check(frame, path, "Sex", frame["Sex"].isin(["male", "female"]), "male or female")
    check(frame, path, "Age", frame["Age"].isna() | frame["Age"].between(0, 120), "between 0 and 120")
    for column in ("SibSp", "Parch"):
        check(frame, path, column, frame[column].between(0, 50), "between 0 and 50")
    check(frame, path, "Fare", frame["Fare"].isna() | (frame["Fare"] >= 0), "0 or more")
    check(frame, path, "Embarked", frame["Embarked"].isna() | frame["Embarked"].isin(["C", "Q", "S"]), "C, Q or S")
    return frame


def load(folder: Path) -> Table:
    """Reads both files.

    Raises:
        DamagedDataError: one is damaged; says in which line.
    """
    train = read_passengers(folder / "train.csv", {"Survived": "number", **COLUMNS})
    check(train, folder / "train.csv", "Survived", train["Survived"].isin([0, 1]), "0 or 1")
    test = read_passengers(folder / "test.csv", COLUMNS)
    return Table(train.reset_index(drop=True), test.reset_index(drop=True), "Survived", "PassengerId")


DATA_SET = DataSet(
    name="titanic",
    title=LocalizedText("Titanic (Kaggle)", "泰坦尼克号 (Kaggle)"),
    description="1,309 passengers: 891 to learn from, 418 whose fate Kaggle asks for",
    licence="public record",
    home="https://www.kaggle.com/c/titanic/data",
    folder="titanic",
    files=("train.csv", "test.csv"),
    load=load,
)
