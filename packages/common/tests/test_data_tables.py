"""Tables: what is wrong with a CSV file is named by its line; the registered ones are what they say."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dlcommon.runtime.data import DATA_SETS, DamagedDataError, LocatedDataSet, Table, fetch, find, house_prices, titanic
from dlcommon.runtime.data.cells import CellReader
from dlcommon.runtime.data.own_table import OwnTable, read_own_table
from dlcommon.runtime.data.table import parse_csv, read_csv
from dlcommon.runtime.errors import DataUnavailableError, UserError
from dlcommon.testing.skips import data_set_or_skip

READERS = {"age": CellReader("number"), "name": CellReader("text")}
BUILT_IN = ["titanic-sample", "iris", "ames"]


def parsed(text: str | bytes) -> pd.DataFrame:
    return parse_csv(text.encode() if isinstance(text, str) else text, Path("file.csv"), READERS)


def own(folder: Path, text: str | bytes, rows: int = 1000) -> OwnTable:
    path = folder / "own.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_own_table(path, lambda text: None, rows=rows)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "file.csv: the file is empty"),
        ("\n \n", "file.csv: the file is empty"),
        ("name,age\n", "file.csv: the file has a header, but no rows"),
        ("name\nAnn\n", "file.csv, row 1: has no column 'age'; its columns are name"),
        ("name,age,age\nAnn,1,2\n", "file.csv, row 1: the header names column 'age' 2 times"),
        ("name,age\nAnn,1\nBob\n", "file.csv, row 3: has 1 cells where the header names 2 columns"),
        ("name,age\nAnn,1,\n", "file.csv, row 2: has 3 cells"),
        ("name,age\nAnn,1\n\nBob,old\n", "file.csv, row 4: age is 'old', which is not a number"),
        ('name,age\n"Ann\nLee",1\n"Bob\nRay",x\n', "file.csv, row 4: age is 'x'"),
        ("name,age\nAnn,1e999\n", "row 2: age is '1e999'"),
        ("name,age\nAnn,inf\n", "row 2: age is 'inf'"),
        ("name,age\nAnn,1_000\n", "row 2: age is '1_000'"),
        ("name,age\nAnn,0x1f\n", "row 2: age is '0x1f'"),
        ('name,age\nAnn,1\n"Bob,2\n', "file.csv, row 3: is not valid CSV (unexpected end of data)"),
        ("name,age\nAnn,1\nRené,2\n".encode("latin-1"), "file.csv, row 3: is not UTF-8 text: byte 0xe9"),
        ("name,age\nAnn,1\n".encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
        (b"name,age\nAnn,1\nBob,\x00\n", "row 3: is not text: it holds a zero byte"),
    ],
)
def test_damage_is_named_with_its_line(content: str | bytes, problem: str) -> None:
    with pytest.raises(DamagedDataError) as caught:
        parsed(content)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(DamagedDataError, match="cannot be read"):
        read_csv(tmp_path / "absent.csv", READERS)
    with pytest.raises(DamagedDataError, match="cannot be read"):
        read_own_table(tmp_path / "absent.csv")


def test_kinds_choose_and_type_the_columns() -> None:
    frame = parsed("id,name,age\n1, Ann ,30\n2,,NA\n3,NA,1.5\n")
    assert list(frame.columns) == ["age", "name"]
    assert frame["age"].dtype == np.float64
    assert frame["name"].dtype == "str"
    assert frame["name"].tolist()[0] == "Ann"
    assert frame.isna().to_numpy().tolist() == [[False, False], [True, True], [False, True]]
    assert frame.index.tolist() == [2, 3, 4]


def test_kinds_are_found_where_they_are_not_given(tmp_path: Path) -> None:
    frame = own(
        tmp_path, "whole,fraction,text,mixed,unknown,code\n1,1,a,1,,007\n-2,2.5,b,x,NA,8\n3,,NA,3,nan,9\n"
    ).frame
    assert [str(kind) for kind in frame.dtypes] == ["int64", "float64", "str", "str", "float64", "str"]
    assert frame["unknown"].isna().all()


def test_a_column_of_numbers_without_any_is_of_missing_numbers() -> None:
    assert parsed("name,age\nAnn,\n")["age"].dtype == np.float64


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_separators_and_byte_order_mark(separator: str, newline: str) -> None:
    text = newline.join([separator.join(line) for line in (["name", "age"], ['"Lee, Ann"', "1"])]) + newline
    frame = parsed(b"\xef\xbb\xbf" + text.encode())
    assert frame.to_dict("list") == {"age": [1], "name": ["Lee, Ann"]}


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;\r"])
def test_a_first_line_that_names_the_separator_for_excel_is_obeyed(first: str, tmp_path: Path) -> None:
    frame = own(tmp_path, f"{first}\na,x;b\n1;2\n").frame
    assert frame.to_dict("list") == {"a,x": [1], "b": [2]}
    with pytest.raises(DamagedDataError, match=r"row 4: has 1 cells"):
        own(tmp_path, f"{first}\na;b\n1;2\n3\n")


def test_commas_in_quoted_names_do_not_hide_the_separator(tmp_path: Path) -> None:
    frame = own(tmp_path, '"Weight, dry, kg";"Price, ""net"", EUR";sold\n50;1000;0\n').frame
    assert list(frame.columns) == ["Weight, dry, kg", 'Price, "net", EUR', "sold"]


def test_a_column_without_a_name_gets_one(tmp_path: Path) -> None:
    assert list(own(tmp_path, ",x\n0,1\n").frame.columns) == ["column 1", "x"]


def test_a_table_says_what_its_features_are() -> None:
    train = pd.DataFrame({"id": [1], "x": [2], "y": [3]})
    assert Table(train, None, "y", "id").features == ["x"]


@pytest.mark.parametrize("name", BUILT_IN)
def test_builtin_tables(name: str) -> None:
    located = find(name)
    assert located is not None
    assert located.origin == "built-in"
    table = located.load()
    assert table.test is None
    assert table.train[table.target].notna().all()
    assert list(table.train.index) == list(range(len(table.train)))
    assert {str(kind) for kind in table.train.dtypes} <= {"int64", "float64", "str"}
    assert f"{len(table.train):,} " in located.dataset.description


def test_the_fingerprint_of_a_table_follows_its_values() -> None:
    import dataclasses

    def located(age: float) -> LocatedDataSet:
        table = Table(pd.DataFrame({"age": [age], "y": [1]}), None, "y", None)
        dataset = dataclasses.replace(DATA_SETS["iris"], load=lambda folder: table)
        return LocatedDataSet(dataset, None, "built-in")

    assert located(1.0).fingerprint() == located(1.0).fingerprint()
    assert located(1.0).fingerprint() != located(2.0).fingerprint()


def test_what_only_members_can_download_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("DL_OFFLINE", raising=False)
    with pytest.raises(DataUnavailableError) as caught:
        fetch("titanic")
    assert "https://www.kaggle.com/c/titanic/data" in str(caught.value)
    assert f"put titanic/train.csv, titanic/test.csv into {tmp_path}" in str(caught.value)


PASSENGERS = {
    "PassengerId": [1, 2],
    "Survived": [0, 1],
    "Pclass": [3, 1],
    "Name": ["Null, Mr. A", "Lee, Mrs. B"],
    "Sex": ["male", "female"],
    "Age": [22, None],
    "SibSp": [0, 1],
    "Parch": [0, 0],
    "Ticket": ["1", "PC 2"],
    "Fare": [7.25, 71.3],
    "Cabin": [None, "C85"],
    "Embarked": ["S", None],
}


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("Age", -1, "Age is -1, not between 0 and 120"),
        ("Sex", "other", "Sex is other, not male or female"),
        ("Pclass", 4, "Pclass is 4, not 1, 2 or 3"),
        ("Fare", -0.5, "Fare is -0.5, not from 0 to 10,000"),
        ("Survived", 2, "Survived is 2, not 0 or 1"),
        ("SibSp", None, "SibSp is nan, not between 0 and 50"),
        ("Embarked", "X", "Embarked is X, not C, Q or S"),
        ("PassengerId", 1, "PassengerId is 1, not a number of its own"),
    ],
)
def test_impossible_passengers(tmp_path: Path, column: str, value: object, problem: str) -> None:
    frame = pd.DataFrame(PASSENGERS)
    frame.drop(columns="Survived").to_csv(tmp_path / "test.csv", index=False)
    frame.to_csv(tmp_path / "train.csv", index=False)
    assert titanic.load(tmp_path).train["Name"].tolist()[0] == "Null, Mr. A"
    frame = frame.astype({column: object})
    frame.loc[1, column] = value
    frame.to_csv(tmp_path / "train.csv", index=False)
    with pytest.raises(DamagedDataError) as caught:
        titanic.load(tmp_path)
    assert f"train.csv, row 3: {problem}" in str(caught.value)


def test_no_basement_is_a_category_and_an_unknown_frontage_is_not(tmp_path: Path) -> None:
    house = dict.fromkeys(house_prices.NONE_COLUMNS, "NA")
    house |= dict.fromkeys(house_prices.TEXT_COLUMNS, "Gd") | {"MasVnrType": "None", "Electrical": "NA"}
    house |= dict.fromkeys([*house_prices.AREAS, *house_prices.OTHER_NUMBERS], "1") | {"LotFrontage": "NA"}
    house |= {
        "YearBuilt": "1999",
        "YearRemodAdd": "1999",
        "YrSold": "2008",
        "Id": "7",
        "SalePrice": "100",
        "GarageYrBlt": "1999",
    }
    for name in ("train.csv", "test.csv"):
        pd.DataFrame([house]).to_csv(tmp_path / name, index=False)
    row = house_prices.load(tmp_path).train.iloc[0]
    assert row["BsmtQual"] == row["Alley"] == row["MasVnrType"] == "None"
    assert pd.isna(row["LotFrontage"])
    assert pd.isna(row["Electrical"])
    pd.DataFrame([house | {"LotArea": "-5"}]).to_csv(tmp_path / "train.csv", index=False)
    with pytest.raises(DamagedDataError, match="row 2: LotArea is -5, not an area"):
        house_prices.load(tmp_path)


@pytest.mark.real_data
def test_real_titanic() -> None:
    table: Table = data_set_or_skip("titanic").load()
    assert table.test is not None
    assert (len(table.train), len(table.test)) == (891, 418)
    assert table.train["Survived"].sum() == 342
    assert table.train.isna().sum()[["Age", "Cabin", "Embarked"]].tolist() == [177, 687, 2]
    assert table.features == [name for name in titanic.READERS if name != "PassengerId"]


@pytest.mark.real_data
def test_every_house_of_kaggle_is_in_ames() -> None:
    """Which also holds that all columns and values of `ames` are renamed rightly."""
    houses: Table = data_set_or_skip("house-prices").load()
    located = find("ames")
    assert located is not None
    assert houses.test is not None
    assert (len(houses.train), len(houses.test)) == (1460, 1459)
    ames: Table = located.load()
    shared = [column for column in houses.train.columns if column in ames.train.columns]
    assert len(shared) == 73
    left, right = (
        frame[shared].assign(MasVnrType=frame["MasVnrType"].fillna("None"), MasVnrArea=frame["MasVnrArea"].fillna(0))
        for frame in (houses.train, ames.train)
    )
    known = {column: "?" if frame_kind == "str" else -1 for column, frame_kind in right.dtypes.items()}
    left, right = left.fillna(known), right.fillna(known).drop_duplicates()
    assert len(left.merge(right, on=shared)) == 1460


@pytest.mark.parametrize("text", ["a" * 70_000 + "\n1\n"])
def test_long_cells_are_read(text: str, tmp_path: Path) -> None:
    assert own(tmp_path, text).frame.shape == (1, 1)


def test_advice_follows_where_a_table_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "titanic"
    folder.mkdir()
    for name in ("train.csv", "test.csv"):
        (folder / name).write_text("PassengerId\n1\n")
    monkeypatch.setenv("DL_DATA_DIR", str(tmp_path))
    located = find("titanic")
    assert located is not None
    with pytest.raises(UserError, match=r"train\.csv, row 1: has no column 'Survived'.*put a whole copy there"):
        located.load()
