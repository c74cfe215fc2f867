"""Reads tables with a target to predict from CSV files that are checked cell by cell."""

import io
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dlcommon.runtime.data.dataset import DamagedDataError
from dlcommon.runtime.data.delimited import column_names, records, text_lines

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["number", "text"]

MISSING = frozenset({"", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null"})
"""Cells that mean "not known" in CSV files whose author has not said otherwise."""


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


def read_csv(
    path: Path,
    kinds: Mapping[str, Kind] | None = None,
    missing: Collection[str] = MISSING,
    literal: Collection[str] = (),
) -> "pd.DataFrame":
    """Reads the table in a CSV file; its index is each row's line in the file (the header is line 1).

    Args:
        kinds: the columns that must be there, and what they hold; any others are left out. None: all columns
            are kept, and those of which every known cell is a number are numbers.
        missing: cells that mean "not known".
        literal: columns in which only the empty cell does.

    Raises:
        DamagedDataError: the file cannot be read as UTF-8 text, is empty, names a column twice or not at all, has
            a row that is too long or too short, or text in a column of numbers; says in which line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedDataError(path, f"cannot be read ({error.strerror})") from error
    return parse_csv(content, path, kinds, missing, literal)


def parse_csv(
    content: bytes,
    path: Path,
    kinds: Mapping[str, Kind] | None = None,
    missing: Collection[str] = MISSING,
    literal: Collection[str] = (),
) -> "pd.DataFrame":
    """Parses a file's content as `read_csv` does; errors name `path`."""
    import pandas as pd

    rows = records(text_lines(io.BytesIO(content), path), path)
    start, header = next(rows, (1, []))
    names = column_names(header)
    if not names:
        raise DamagedDataError(path, "the file is empty")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DamagedDataError(path, f"the header names column {twice[0]!r} {names.count(twice[0])} times", start)
    if absent := [name for name in kinds or () if name not in names]:
        raise DamagedDataError(path, f"has no column {absent[0]!r}; its columns are {', '.join(names)}", start)
    lines, cells = [], []
    for line, record in rows:
        if len(record) != len(names):
            raise DamagedDataError(path, f"has {len(record)} cells where the header names {len(names)} columns", line)
        lines.append(line)
        cells.append(record)
    if not cells:
        raise DamagedDataError(path, "the file has a header, but no rows")
    columns = dict(zip(names, zip(*cells, strict=True), strict=True))
    index = pd.Index(lines, name="line")
    data = {
        name: _column(
            name, columns[name], {""} if name in literal else missing, kinds[name] if kinds else None, index, path
        )
        for name in kinds or names
    }
    return pd.DataFrame(data, index=index)


def check(frame: "pd.DataFrame", path: Path, column: str, good: "pd.Series", expected: str) -> None:
    """Checks that every row of a table from `read_csv` is good.

    Raises:
        DamagedDataError: one is not; says its line, what the column holds there and what was `expected`.
    """
    if not good.all():
        line = int(good.index[~good][0])
        raise DamagedDataError(path, f"{column} is {frame.at[line, column]!s}, not {expected}", line)


def _column(
    name: str, cells: tuple[str, ...], missing: Collection[str], kind: Kind | None, index: "pd.Index", path: Path
) -> "pd.Series":
    import pandas as pd

    values = [None if (cell := raw.strip()) in missing else cell for raw in cells]
    if kind != "text":
        numbers = []
        for line, value in zip(index, values, strict=True):
            number = math.nan if value is None else parse_number(value)
            if number is None:
                if kind == "number":
                    raise DamagedDataError(path, f"{name} is {value!r}, which is not a number", int(line))
                break
            numbers.append(number)
        known = any(value is not None for value in values)
        if len(numbers) == len(values) and (known or kind == "number"):
            whole = all(number.is_integer() and abs(number) < 2**53 for number in numbers)
            return pd.Series(numbers, index, "int64" if whole else "float64")
    return pd.Series(values, index, "str")


def parse_number(cell: str) -> float | None:
    """Parses a number; returns None for any other text, which includes `inf`, `nan` and Python's `1_000`."""
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in cell else None
