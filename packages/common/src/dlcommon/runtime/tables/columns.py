"""Describes the columns of a table, and checks values that users send."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from dlcommon.runtime.data.cells import MISSING, CellReader
from dlcommon.runtime.data.dataset import DamagedDataError
from dlcommon.runtime.data.table import parse_csv
from dlcommon.runtime.data.text_encoding import Note
from dlcommon.runtime.errors import InvalidInputError

MOST_CATEGORIES = 30
"""Distinct texts up to which a column is one of categories; it has text beyond."""


@dataclass(frozen=True)
class Column:
    """Describes a column as it was in the training rows."""

    name: str
    kind: Literal["number", "category", "text"]
    missing: float
    """Share of rows without a value."""
    distinct: int
    """Different known values."""
    typical: float | str | None = None
    """Median of numbers, most frequent category; None for text, or where nothing is known."""
    whole: bool = False
    """Numbers without fractions."""
    low: float | None = None
    high: float | None = None
    categories: tuple[str, ...] = ()
    """From the most to the least frequent."""
    reader: CellReader | None = None
    """How the cells were read; None: as those of any file."""

    @property
    def reading(self) -> CellReader:
        """How cells are read; where that is not known, what is one of the categories does not mean "not known"."""
        if self.reader is not None:
            return self.reader
        return CellReader("number" if self.kind == "number" else "text", MISSING - set(self.categories))

    @property
    def is_date(self) -> bool:
        """Whether the numbers are dates, in days since 1970-01-01."""
        return self.reader is not None and self.reader.kind == "date"

    def problem(self, value: float | str | None) -> str | None:
        """Says why a value that the training rows' kind and sign exclude cannot be used; None where it can."""
        if value is None or (isinstance(value, float) and math.isnan(value)) or value == "":
            return None
        if self.kind == "number":
            number = float(value)
            if problem := self.reading.problem(number):
                return f"{self.name} {problem}"
            if self.low is not None and self.low >= 0 and number < 0 and not self.is_date:
                return f"{self.name} is {number:g}, but is never negative"
        if self.kind == "category" and value not in self.categories:
            return f"{self.name} is {str(value)[:40]!r}, none of {', '.join(self.categories)}"
        return None

    def unusual(self, value: float | str | None) -> str | None:
        """Says how a number lies outside of those that were trained on; None where it does not."""
        if self.kind != "number" or value is None or self.low is None or self.high is None:
            return None
        number = float(value)
        if math.isnan(number) or self.low <= number <= self.high:
            return None
        span = f"{self.shown(self.low)} to {self.shown(self.high)}"
        return f"{self.name} is {self.shown(number)}, outside what was trained on ({span})"

    def shown(self, value: float) -> str:
        """Writes a number of this column as people read it."""
        return self.reading.shown(value)

    def parse(self, cell: str) -> float | str | None:
        """Reads a cell of a CSV file as training reads it; None where it means "not known".

        Raises:
            InvalidInputError: it is no number or date in a column of those, or an impossible one.
        """
        try:
            return self.reading.parse(cell)
        except ValueError as error:
            raise InvalidInputError(f"{self.name} {error}") from None

    def as_json(self) -> dict[str, Any]:
        content = asdict(replace(self, reader=None))
        return content if self.reader is None else {**content, "reader": self.reader.as_json()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Column":
        reader = content.get("reader")
        return cls(**{
            **content,
            "categories": tuple(content["categories"]),
            "reader": CellReader.from_json(reader) if reader is not None else None,
        })  # fmt: skip


def describe(frame: pd.DataFrame, readers: Mapping[str, CellReader] | None = None) -> list[Column]:
    """Describes what each column holds.

    Args:
        readers: how the columns' cells were read.
    """
    return with_readers([_described(name, frame[name]) for name in frame.columns], readers or {})


def with_readers(columns: Sequence[Column], readers: Mapping[str, CellReader]) -> list[Column]:
    """Tells columns that do not know it how their cells are read."""
    return [column if column.reader else replace(column, reader=readers.get(column.name)) for column in columns]


def _described(name: str, values: pd.Series) -> Column:
    known = values.dropna()
    missing, distinct = float(values.isna().mean()), int(known.nunique())
    if is_numeric_dtype(values):
        if known.empty:
            return Column(name, "number", missing, 0)
        whole = bool((known % 1 == 0).all())
        return Column(
            name, "number", missing, distinct, float(known.median()), whole, float(known.min()), float(known.max())
        )
    if 0 < distinct <= MOST_CATEGORIES and distinct <= max(2, len(known) // 4):
        counts = known.value_counts()
        return Column(name, "category", missing, distinct, str(counts.index[0]), categories=tuple(counts.index))
    return Column(name, "text", missing, distinct)


def as_arrays(frame: pd.DataFrame, columns: Sequence[Column]) -> dict[str, np.ndarray]:
    """Makes a model's inputs: float32 [rows, 1] with NaN for missing numbers, text [rows, 1] with "" for missing texts.

    A column that the frame lacks is missing in all rows.
    """
    arrays: dict[str, np.ndarray] = {}
    for column in columns:
        if column.kind == "number":
            numbers = frame[column.name].to_numpy(np.float32) if column.name in frame else np.full(len(frame), np.nan)
            arrays[column.name] = numbers.astype(np.float32)[:, None]
        else:
            texts = frame[column.name].fillna("").to_numpy(object) if column.name in frame else [""] * len(frame)
            arrays[column.name] = np.asarray(texts, dtype=object)[:, None]
    return arrays


def parse_rows(content: bytes, path: Path, columns: Sequence[Column], note: Note) -> pd.DataFrame:
    """Reads a CSV file that somebody sends as training read its own; the frame's index is each row's line.

    Columns that it lacks are not known, and `note` is told of them.

    Raises:
        DamagedDataError: as `parse_csv`, or a value is one that the training rows exclude; names the line and the
            column.
    """
    frame = parse_csv(content, path, {column.name: column.reading for column in columns}, optional=True, note=note)
    if absent := [column.name for column in columns if column.name not in frame]:
        note(f"{path.name} has no {', '.join(absent)}, so they count as not known")
    for column in columns:
        if column.name not in frame:
            continue
        for line, value in frame[column.name].dropna().drop_duplicates().items():
            if problem := column.problem(value):
                raise DamagedDataError(path, problem, int(line))
    return frame


def unusual_values(frame: pd.DataFrame, columns: Sequence[Column]) -> list[str]:
    """Says of each row which numbers lie outside of those that were trained on, [rows]."""
    found: list[list[str]] = [[] for _ in range(len(frame))]
    for column in columns:
        if column.kind == "number" and column.name in frame:
            values = frame[column.name].to_numpy(np.float64)
            low, high = (np.nan if bound is None else bound for bound in (column.low, column.high))
            for row in np.flatnonzero((values < low) | (values > high)):
                found[row].append(column.unusual(float(values[row])) or "")
    return ["; ".join(row) for row in found]
