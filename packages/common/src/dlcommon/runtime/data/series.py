"""Reads a user's own time series strictly: one column of a CSV file."""

import csv
import math
import re
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro

from dlcommon.runtime.data.text_corpus import read_text
from dlcommon.runtime.data.text_encoding import say
from dlcommon.runtime.errors import UsageError, UserError

DATE_HEADINGS = ("date", "time", "datetime", "timestamp", "day", "month", "week", "日期", "时间")
VALUE_HEADINGS = ("adj close", "adjusted close", "close", "price", "value", "收盘", "收盘价", "价格")
"""Taken where no column is named, the first that is there."""
DATE_FORMATS = (
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%Y-%m",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%d.%m.%Y",
    "%d-%b-%Y",
    "%b %d, %Y",
    "%Y年%m月%d日",
)
"""Tried after ISO 8601; the first that fits every row and puts the rows in order is the file's."""

LEAST = 200
"""Values: less is too little to train on and to test with."""


@dataclass(frozen=True)
class SeriesOptions:
    """Options of a lesson on time series."""

    csv: Path | None = None
    """Your own series: a CSV file with a heading line and one row for each time."""
    column: str | None = None
    """Its column of values; by default the one called like a closing price, else the only one with numbers."""
    season: int = 5
    """How many values make a season, such as 5 trading days, 7 days or 12 months."""


def series_options(arguments: list[str] | None = None) -> SeriesOptions:
    """Reads the words after `lesson run 06/09`; by default the script's own, of which a notebook has none.

    Raises:
        UsageError: a season of less than one value, or a column of no file.
    """
    if arguments is None:
        arguments = [] if "ipykernel" in sys.modules else sys.argv[1:]
    options = tyro.cli(SeriesOptions, prog="lesson run", args=arguments)
    if options.season < 1:
        raise UsageError(f"--season {options.season}: a season has at least one value")
    if options.csv is None and options.column is not None:
        raise UsageError(f"--column {options.column} names a column of --csv FILE, which is missing")
    return options


@dataclass(frozen=True)
class Series:
    name: str
    """File and column."""
    dates: "np.ndarray | None"
    """datetime64[s] of shape `[time]`, ascending; None where the file has no dates."""
    values: "np.ndarray"
    """float64 of shape `[time]`, finite."""


def own_series(options: SeriesOptions) -> Series | None:
    """Returns the series that the options name, fit for a backtest; None where they name none.

    Raises:
        UserError: the file cannot be used, is too short, or never changes.
        UsageError: the season is too long for it.
    """
    if options.csv is None:
        return None
    series = read_series(options.csv, options.column)
    if len(series.values) < LEAST:
        raise UserError(f"{series.name}: {len(series.values)} values; at least {LEAST} are needed for a backtest")
    if (series.values == series.values[0]).all():
        raise UserError(f"{series.name}: all values are {series.values[0]:g}; there is nothing to forecast")
    if options.season > len(series.values) // 4:
        raise UsageError(f"--season {options.season}: {len(series.values)} values hold fewer than four such seasons")
    return series


class _Row(NamedTuple):
    line: int
    """In the file, counted from 1, as editors and spreadsheets show it."""
    cells: list[str]


def read_series(path: Path, column: str | None = None) -> Series:
    """Reads the values of one column in chronological order. A file that has its newest row first is reversed.

    Raises:
        UserError: the file cannot be used; names the line and the column that are to be put right.
        UsageError: the file has no such column, or several that could be meant.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    heading, *rows = _rows(path)
    if not rows:
        raise UserError(f"{path}: there is a heading line and nothing below it")
    for row in rows:
        if len(row.cells) != len(heading.cells):
            expected = len(heading.cells)
            raise UserError(f"{path}, line {row.line}: {len(row.cells)} cells, but the heading line has {expected}")
    titles = [title.strip() for title in heading.cells]
    dated = next((index for index, title in enumerate(titles) if title.lower() in DATE_HEADINGS), None)
    chosen = _column(path, titles, rows, dated, column)
    values = np.array([_number(path, row, titles[chosen], row.cells[chosen]) for row in rows])
    dates = None if dated is None else _dates(path, rows, titles[dated], dated)
    if dates is not None and dates[0] > dates[-1]:
        dates, values = dates[::-1].copy(), values[::-1].copy()
    return Series(f"{path.name}, {titles[chosen]}", dates, values)


def _rows(path: Path) -> list[_Row]:
    """Reads all lines that are not empty.

    Raises:
        UserError: the file is empty, no text, or no CSV.
    """
    lines = read_text(path, say).splitlines()
    separators = {separator: lines[0].count(separator) for separator in ",;\t"}
    reader = csv.reader(lines, delimiter=max(separators, key=lambda separator: separators[separator]), strict=True)
    try:
        return [_Row(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not a line of CSV ({error})") from None


def _column(path: Path, titles: list[str], rows: list[_Row], dated: int | None, wanted: str | None) -> int:
    lowered = [re.sub(r"[_\s]+", " ", title.lower()) for title in titles]
    there = ", ".join(titles)
    if wanted is not None:
        key = re.sub(r"[_\s]+", " ", wanted.strip().lower())
        if key not in lowered:
            raise UsageError(f"--column {wanted}: {path} has the columns {there}")
        return lowered.index(key)
    for name in VALUE_HEADINGS:
        if name in lowered:
            return lowered.index(name)
    numeric = [index for index, cell in enumerate(rows[0].cells) if index != dated and _is_number(cell)]
    if len(numeric) != 1:
        problem = "no column with a number in its first row" if not numeric else "several columns of numbers"
        raise UsageError(f"{path} has {problem}; say which one with --column; it has {there}")
    return numeric[0]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(path: Path, row: _Row, title: str, cell: str) -> float:
    where = f"{path}, line {row.line}, column {title!r}"
    if not cell.strip():
        raise UserError(f"{where}: the cell is empty; fill it in or delete the line")
    try:
        value = float(cell)
    except ValueError:
        plain = re.sub(r"[\s,$€£¥%]", "", cell)
        hint = f"; write it as {plain}" if _is_number(plain) else "; correct it or delete the line"
        raise UserError(f"{where}: {cell!r} is not a number{hint}") from None
    if not math.isfinite(value):
        raise UserError(f"{where}: {cell!r} is not a finite number; correct it or delete the line")
    return value


def _dates(path: Path, rows: list[_Row], title: str, index: int) -> "np.ndarray":
    """Parses dates, datetime64[s], strictly ascending or strictly descending."""
    parsed: dict[str, list[datetime]] = {}
    for form in ("ISO", *DATE_FORMATS):
        parsed[form] = []
        for row in rows:
            if (date := _date(row.cells[index].strip(), form)) is None:
                break
            parsed[form].append(date)
    whole = [np.array(dates, dtype="datetime64[s]") for dates in parsed.values() if len(dates) == len(rows)]
    if not whole:
        reached = max(len(dates) for dates in parsed.values())
        row = rows[reached]
        raise UserError(
            f"{path}, line {row.line}, column {title!r}: {row.cells[index]!r} is not a date like those before it; "
            f"write all as 2024-12-31"
        )
    for dates in whole:
        steps = np.diff(dates).astype(int)
        if (steps > 0).all() or (steps < 0).all():
            return dates
    dates = whole[0]
    steps = np.diff(dates).astype(int)
    ascending = (steps > 0).sum() >= (steps < 0).sum()
    row = rows[int(np.flatnonzero(steps <= 0 if ascending else steps >= 0)[0]) + 1]
    raise UserError(
        f"{path}, line {row.line}, column {title!r}: {row.cells[index]!r} does not follow the date before it; "
        f"sort the rows by date and keep one for each"
    )


def _date(cell: str, form: str) -> datetime | None:
    try:
        date = datetime.fromisoformat(cell) if form == "ISO" else datetime.strptime(cell, form)
    except ValueError:
        return None
    return date.replace(tzinfo=None)
