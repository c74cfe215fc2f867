"""Describes the columns of a table, and checks values that users send."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from dlcommon.runtime.data.dataset import DamagedDataError
from dlcommon.runtime.data.table import MISSING, parse_csv, parse_number
from dlcommon.runtime.errors import InvalidInputError

MOST_CATEGORIES = 30
"""Distinct texts up to which a column is one of categories; it has text beyond."""
_LIKE_A_NUMBER = re.compile(r"[^\w\s]?\s?[-+]?\d[\d.,' \u00a0\u202f]*\s?(%|[^\w\s]|[A-Z]{3})?")
"""A number with a decimal comma, separators of thousands, a currency or a per cent sign."""


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

    def problem(self, value: float | str | None) -> str | None:
        """Says why a value that the training rows' kind and sign exclude cannot be used; None where it can."""
        if value is None or (isinstance(value, float) and math.isnan(value)) or value == "":
            return None
        if self.kind == "number" and self.low is not None and self.low >= 0 and float(value) < 0:
            return f"{self.name} is {value:g}, but is never negative"
        if self.kind == "category" and value not in self.categories:
            return f"{self.name} is {str(value)[:40]!r}, none of {', '.join(self.categories)}"
        return None

    def parse(self, cell: str) -> float | str | None:
        """Reads a cell of a CSV file as training reads it; None where it means "not known".

        Raises:
            InvalidInputError: it is no number, in a column of numbers.
        """
        text = cell.strip()
        if text in MISSING and text not in self.categories:
            return None
        if self.kind != "number":
            return text
        if (number := parse_number(text)) is None:
            looks = _LIKE_A_NUMBER.fullmatch(text)
            hint = "; write it with a decimal point and without separators or signs, as in 1234.5" if looks else ""
            raise InvalidInputError(f"{self.name} is {text[:40]!r}, which is not a number{hint}")
        return number

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Column":
        return cls(**{**content, "categories": tuple(content["categories"])})


def describe(frame: pd.DataFrame) -> list[Column]:
    """Describes what each column holds."""
    return [_described(name, frame[name]) for name in frame.columns]


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


def parse_rows(content: bytes, path: Path, columns: Sequence[Column]) -> pd.DataFrame:
    """Reads a CSV file that somebody sends, in these columns; the frame's index is each row's line.

    Raises:
        DamagedDataError: as `parse_csv`, or a category is unknown, or a number negative that never was; names the
            line and the column.
    """
    frame = parse_csv(content, path, {c.name: "number" if c.kind == "number" else "text" for c in columns})
    for column in columns:
        values = frame[column.name]
        known = values.dropna()
        unusual = known[known < 0] if is_numeric_dtype(values) else known[~known.isin(column.categories)]
        if column.kind != "text" and len(unusual) and (problem := column.problem(unusual.iloc[0])):
            raise DamagedDataError(path, problem, int(unusual.index[0]))
    return frame
