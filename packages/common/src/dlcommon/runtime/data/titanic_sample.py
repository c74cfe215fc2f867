"""Loads the passenger list that bokeh-sampledata ships: more passengers than Kaggle's file, and fewer columns.

1,313 names with class, age, sex and fate: no ticket, fare, cabin, port or relatives. Columns and values are renamed
to Kaggle's; a name's title comes without a dot ("Allen, Miss Elisabeth Walton"). Kaggle's unanswered passengers are
among them with their fate, so nothing learned here may be used to answer Kaggle.
"""

from pathlib import Path

from dlcommon.runtime.data.dataset import DataSet
from dlcommon.runtime.data.package_files import package_file
from dlcommon.runtime.data.table import Table, check, read_csv
from dlcommon.runtime.data.titanic import NUMBER, READERS, TEXT
from dlcommon.runtime.localization import LocalizedText

NAMES = {"survived": "Survived", "class": "Pclass", "name": "Name", "sex": "Sex", "age": "Age"}
CLASSES = {"1st": 1, "2nd": 2, "3rd": 3}


def load(folder: Path) -> Table:
    """Reads all passengers but the one whose class the list does not know ("*").

    Raises:
        UserError: bokeh-sampledata is not installed.
        DamagedDataError: its file is damaged.
    """
    path = package_file("bokeh_sampledata", "_data/titanic_all.csv", "titanic-sample")
    frame = read_csv(path, {name: NUMBER if name in ("survived", "age") else TEXT for name in NAMES})
    frame = frame[frame["class"] != "*"]
    check(frame, path, "class", frame["class"].isin(list(CLASSES)), "1st, 2nd or 3rd")
    check(frame, path, "survived", frame["survived"].isin([0, 1]), "0 or 1")
    frame = frame.assign(**{"class": frame["class"].map(CLASSES)}).rename(columns=NAMES)
    return Table(frame.reset_index(drop=True), None, "Survived", None, READERS)


DATA_SET = DataSet(
    name="titanic-sample",
    title=LocalizedText("Titanic passenger list", "泰坦尼克号乘客名单"),
    description="1,312 passengers with class, age, sex and fate, which bokeh-sampledata ships",
    licence="public domain",
    home="https://docs.bokeh.org/en/latest/docs/reference/sampledata.html",
    load=load,
    builtin=True,
)
