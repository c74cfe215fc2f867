"""The user's own table as a data set."""

from pathlib import Path

import pandas as pd
from dlcommon.runtime.data import DataSet, LocatedDataSet, Table, own_files
from dlcommon.runtime.data.table import read_csv
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.localization import LocalizedText

from eda_titanic.config import Config


def own_data(config: Config) -> LocatedDataSet | None:
    """Returns the table that `--csv` and `--target` name, if they name one.

    Raises:
        UserError: as of `own_table`.
    """
    return own_table(Path(config.csv), config.target) if config.csv and config.target else None


def row_number(frame: pd.DataFrame, target: str) -> str | None:
    """Finds the column that counts the rows, if there is one: it names them and says nothing else."""
    for name in frame.columns:
        values = frame[name]
        if (
            name != target
            and len(frame) > 1
            and pd.api.types.is_integer_dtype(values)
            and (values.diff()[1:] == 1).all()
        ):
            return str(name)
    return None


def own_table(path: Path, target: str) -> LocatedDataSet:
    """Makes a data set of a user's CSV file.

    Raises:
        UserError: there is no such file; when it is loaded, that it is damaged or lacks the target.
    """
    path = path.expanduser()

    def load(folder: Path) -> Table:
        frame = read_csv(folder / path.name)
        if target not in frame:
            raise UserError(f"--target {target}: {path} has no such column; its columns are {', '.join(frame.columns)}")
        frame = frame.reset_index(drop=True)
        return Table(frame, None, target, row_number(frame, target))

    dataset = DataSet(
        name=f"own-{safe_name(path.stem)}", title=LocalizedText(path.stem, path.stem),
        description=f"{path.name}, a user's own file",
        licence="the user's own", home="", load=load, files=(path.name,),
    )  # fmt: skip
    return own_files(dataset, path.parent)


def safe_name(stem: str) -> str:
    """Replaces what may not be part of a folder's name."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in stem).strip("-.") or "table"
