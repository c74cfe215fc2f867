"""Reads tables with a target to predict from CSV files that are checked cell by cell."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dlcommon.runtime.data.cells import CellReader
from dlcommon.runtime.data.dataset import DamagedDataError
from dlcommon.runtime.data.delimited import column_names, records, text_lines
from dlcommon.runtime.data.text_encoding import Note
from dlcommon.runtime.localization import LocalizedText

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Table:
    """Holds rows whose target is to be predicted.

    Numbers are int64 or, where one is missing or has a fraction, float64; text is pandas' `str`; missing is NaN.
    """

    train: "pd.DataFrame"
    """With the target column."""
    test: "pd.DataFrame | None"
    """Rows without the target, which a competition asks predictions for."""
    target: str
    identifier: str | None
    """Column that identifies the rows, and is no feature."""
    readers: Mapping[str, CellReader] = field(default_factory=dict)
    """How the columns' cells were read, as further files of such rows are to be; by default as any file's are."""
    notes: Sequence[LocalizedText] = ()
    """What a user should know of how the table was read."""

    @property
    def features(self) -> list[str]:
        return [column for column in self.train.columns if column not in (self.target, self.identifier)]

    def contents(self) -> Iterator[bytes]:
        """Yields all names, types and values."""
        yield repr((self.target, self.identifier)).encode()
        for frame in (self.train, self.test):
            if frame is not None:
                yield repr([str(kind) for kind in frame.dtypes]).encode()
                yield frame.to_csv(index=False).encode()


def read_csv(path: Path, readers: Mapping[str, CellReader]) -> "pd.DataFrame":
    """Reads the table in a CSV file; its index is each row's line in the file (the header is line 1).

    Args:
        readers: of the columns that must be there; any others are left out.

    Raises:
        DamagedDataError: the file cannot be read as UTF-8 text, is empty, names a column twice or not at all, has
            a row that is too long or too short, or a cell that cannot be; says in which line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedDataError(path, f"cannot be read ({error.strerror})") from error
    return parse_csv(content, path, readers)


def parse_csv(
    content: bytes,
    path: Path,
    readers: Mapping[str, CellReader],
    optional: bool = False,
    note: Note | None = None,
) -> "pd.DataFrame":
    """Parses a file's content as `read_csv` does; errors name `path`.

    Args:
        optional: lets columns be absent, but not all of them; the table then does not have them.
        note: is told of another encoding than UTF-8, which is then recognized.
    """
    import pandas as pd

    rows = records(text_lines(io.BytesIO(content), path, note), path)
    start, names = named_columns(rows, path)
    absent = [name for name in readers if name not in names]
    if absent and (not optional or len(absent) == len(readers)):
        raise DamagedDataError(path, f"has no column {absent[0]!r}; its columns are {', '.join(names)}", start)
    lines, cells = [], []
    for line, record in whole_rows(rows, len(names), path):
        lines.append(line)
        cells.append(record)
    if not cells:
        raise DamagedDataError(path, "the file has a header, but no rows")
    columns = dict(zip(names, zip(*cells, strict=True), strict=True))
    index = pd.Index(lines, name="line")
    data = {name: read_cells(name, columns[name], readers[name], index, path) for name in readers if name in columns}
    return pd.DataFrame(data, index=index)


def named_columns(rows: Iterator[tuple[int, list[str]]], path: Path) -> tuple[int, list[str]]:
    """Reads the header from a file's records; returns its line, and the names of the columns.

    Raises:
        DamagedDataError: there is none, or it names a column twice.
    """
    start, header = next(rows, (1, []))
    names = column_names(header)
    if not names:
        raise DamagedDataError(path, "the file is empty")
    if len(set(names)) < len(names):
        twice = min(name for name in names if names.count(name) > 1)
        raise DamagedDataError(path, f"the header names column {twice!r} {names.count(twice)} times", start)
    return start, names


def whole_rows(rows: Iterator[tuple[int, list[str]]], columns: int, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields the records, each with the line that it begins in.

    Raises:
        DamagedDataError: one has another number of cells than there are columns.
    """
    for line, record in rows:
        if len(record) != columns:
            raise DamagedDataError(path, f"has {len(record)} cells where the header names {columns} columns", line)
        yield line, record


def check(frame: "pd.DataFrame", path: Path, column: str, good: "pd.Series", expected: str) -> None:
    """Checks that every row of a table from `read_csv` is good.

    Raises:
        DamagedDataError: one is not; says its line, what the column holds there and what was `expected`.
    """
    if not good.all():
        line = int(good.index[~good][0])
        raise DamagedDataError(path, f"{column} is {frame.at[line, column]!s}, not {expected}", line)


def read_cells(name: str, cells: Sequence[str], reader: CellReader, index: "pd.Index", path: Path) -> "pd.Series":
    """Reads the cells of a column: int64 or, where one is missing or has a fraction, float64; text as pandas' `str`.

    Raises:
        DamagedDataError: one cannot be; says in which line.
    """
    import pandas as pd

    read: dict[str, float | str | None] = {}
    values = []
    for line, cell in zip(index, cells, strict=True):
        if cell not in read:
            try:
                read[cell] = reader.parse(cell)
            except ValueError as error:
                raise DamagedDataError(path, f"{name} {error}", int(line)) from None
        values.append(read[cell])
    if reader.kind == "text":
        return pd.Series(values, index, "str")
    numbers = pd.Series(values, index, "float64")
    whole = bool(((numbers % 1 == 0) & (numbers.abs() < 2**53)).all())
    return numbers.astype("int64") if whole else numbers
