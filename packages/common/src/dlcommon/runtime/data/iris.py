"""Loads Iris: 150 flowers of three species, four measurements each (Fisher 1936)."""

from pathlib import Path

from dlcommon.runtime.data.cells import CellReader
from dlcommon.runtime.data.dataset import DataSet
from dlcommon.runtime.data.package_files import package_file
from dlcommon.runtime.data.table import Table, check, read_csv
from dlcommon.runtime.localization import LocalizedText

MEASUREMENTS = ("sepal_length", "sepal_width", "petal_length", "petal_width")
"""In centimetres."""


def load(folder: Path) -> Table:
    """Reads the file of bokeh-sampledata.

    Raises:
        UserError: bokeh-sampledata is not installed.
        DamagedDataError: its file is damaged.
    """
    path = package_file("bokeh_sampledata", "_data/iris.csv", "iris")
    readers = {**dict.fromkeys(MEASUREMENTS, CellReader("number")), "species": CellReader("text")}
    frame = read_csv(path, readers)
    for column in MEASUREMENTS:
        check(frame, path, column, frame[column] > 0, "a length in centimetres")
    check(frame, path, "species", frame["species"].notna(), "a species")
    return Table(frame.reset_index(drop=True), None, "species", None)


DATA_SET = DataSet(
    name="iris",
    title=LocalizedText("Iris", "鸢尾花"),
    description="150 flowers of three species, four measurements each, which bokeh-sampledata ships",
    licence="CC BY 4.0 (Fisher 1936)",
    home="https://archive.ics.uci.edu/dataset/53/iris",
    load=load,
    builtin=True,
)
