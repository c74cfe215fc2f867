"""Loads Titanic, as Kaggle's competition gives it: 891 passengers with their fate, 418 without."""

from pathlib import Path
from typing import TYPE_CHECKING

from dlcommon.runtime.data.cells import CellReader
from dlcommon.runtime.data.dataset import DataSet
from dlcommon.runtime.data.table import Table, check, read_csv
from dlcommon.runtime.localization import LocalizedText

if TYPE_CHECKING:
    import pandas as pd

TEXT, NUMBER = CellReader("text", frozenset({""})), CellReader("number", frozenset({""}))
"""Only an empty cell is missing, since people may be named "Null"."""
RELATIVES = NUMBER.bounded(0, 50, "between 0 and 50", whole=True)
READERS: dict[str, CellReader] = {
    "PassengerId": NUMBER,
    "Pclass": NUMBER.bounded(1, 3, "1, 2 or 3", whole=True),
    "Name": TEXT,
    "Sex": TEXT,
    "Age": NUMBER.bounded(0, 120, "between 0 and 120"),
    "SibSp": RELATIVES,
    "Parch": RELATIVES,
    "Ticket": TEXT,
    "Fare": NUMBER.bounded(0, 10_000, "from 0 to 10,000"),
    "Cabin": TEXT,
    "Embarked": TEXT,
}


def read_passengers(path: Path, readers: dict[str, CellReader]) -> "pd.DataFrame":
    """Reads passengers, in the columns of `readers`.

    Raises:
        DamagedDataError: the file is damaged or a value is impossible; says in which line.
    """
    frame = read_csv(path, readers)
    check(frame, path, "PassengerId", ~frame["PassengerId"].duplicated(), "a number of its own")
    check(frame, path, "Sex", frame["Sex"].isin(["male", "female"]), "male or female")
    for column in ("Pclass", "SibSp", "Parch"):
        check(frame, path, column, frame[column].notna(), readers[column].expected)
    check(frame, path, "Embarked", frame["Embarked"].isna() | frame["Embarked"].isin(["C", "Q", "S"]), "C, Q or S")
    return frame


def load(folder: Path) -> Table:
    """Reads both files.

    Raises:
        DamagedDataError: one is damaged; says in which line.
    """
    train = read_passengers(folder / "train.csv", {"Survived": NUMBER, **READERS})
    check(train, folder / "train.csv", "Survived", train["Survived"].isin([0, 1]), "0 or 1")
    test = read_passengers(folder / "test.csv", READERS)
    return Table(train.reset_index(drop=True), test.reset_index(drop=True), "Survived", "PassengerId", READERS)


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
