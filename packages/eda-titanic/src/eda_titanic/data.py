"""The user's own table as a data set."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from dlcommon.runtime.data import DataSet, LocatedDataSet, Table, own_files
from dlcommon.runtime.data.own_table import read_own_table
from dlcommon.runtime.data.text_encoding import say
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.localization import LocalizedText

from eda_titanic.config import MOST_ROWS, Config


def own_data(config: Config) -> LocatedDataSet | None:
    """Returns the table that `--csv` and `--target` name, if they name one.

    Raises:
        UserError: as of `own_table`.
    """
    if not config.csv or not config.target:
        return None
    return own_table(Path(config.csv), config.target, config.rows, [config.group] if config.group else [])


def row_number(frame: pd.DataFrame, target: str, lines: Sequence[int]) -> str | None:
    """Finds the column that counts the rows, if there is one: it names them and says nothing else.

    Args:
        lines: of the file, that the rows are in; of a sample the numbers follow them.
    """
    for name in frame.columns:
        values = frame[name]
        if (
            name != target
            and len(frame) > 1
            and pd.api.types.is_integer_dtype(values)
            and ((values.diff()[1:] == 1).all() or (values - np.asarray(lines)).nunique() == 1)
        ):
            return str(name)
    return None


def own_table(path: Path, target: str, rows: int = MOST_ROWS, wanted: Sequence[str] = ()) -> LocatedDataSet:
    """Makes a data set of a user's CSV file.

    Args:
        rows: of a longer file that many are drawn at random.
        wanted: further columns that are kept of a wide file in any case.

    Raises:
        UserError: there is no such file; when it is loaded, that it is damaged or lacks the target.
    """
    path = path.expanduser()

    def load(folder: Path) -> Table:
        read = read_own_table(folder / path.name, say, rows, wanted=(target, *wanted))
        frame = read.frame
        if target not in frame:
            raise UserError(f"--target {target}: {path} has no such column; its columns are {', '.join(frame.columns)}")
        for note in read.notes:
            say(f"{path.name}: {note.en}" if path.name not in note.en else note.en)
        return Table(frame, None, target, row_number(frame, target, read.lines), read.readers, read.notes)

    dataset = DataSet(
        name=f"own-{safe_name(path.stem)}", title=LocalizedText(path.stem, path.stem),
        description=f"{path.name}, a user's own file",
        licence="the user's own", home="", load=load, files=(path.name,),
    )  # fmt: skip
    return own_files(dataset, path.parent)


def safe_name(stem: str) -> str:
    """Replaces what may not be part of a folder's name."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in stem).strip("-.") or "table"
