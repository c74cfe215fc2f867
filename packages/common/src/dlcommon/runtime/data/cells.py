"""How the cells of a column are read: as numbers in one way of writing them, as dates, or as text."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["number", "text", "date"]

MISSING = frozenset({"", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null"})
"""Cells that mean "not known" in CSV files whose author has not said otherwise."""
LARGEST_NUMBER = 1e30
"""Size of numbers beyond which models, which compute in float32, cannot use them."""
ISO = "ISO8601"
"""Pandas' name of the pattern of dates and times as ISO 8601 writes them, with or without a zone."""
UNIT = r"[$€£¥₹₩₽%‰]|US\$|R\$|[A-Z]{3}|kr|zł|元"
_AROUND = re.compile(rf"(?P<before>{UNIT})?\s*(?P<body>[^\s\w(]?.*\d.*?)\s*(?P<after>{UNIT})?", re.DOTALL)
_SPACES = str.maketrans({"\u00a0": " ", "\u202f": " ", "’": "'", "−": "-"})


@dataclass(frozen=True)
class CellReader:
    """Reads the cells of one column, in training as in every file and request afterwards.

    A date is read as the days since 1970-01-01 in UTC, with a fraction for the time of day.
    """

    kind: Kind
    missing: frozenset[str] = MISSING
    """Cells that mean "not known"."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Texts that stand for others."""
    decimal: str = "."
    thousands: str = ""
    unit: str = ""
    """Currency or per cent sign that every cell has, before or after the number."""
    pattern: str = ""
    """Of dates, as `strptime` has it, or `ISO`."""
    low: float | None = None
    """Numbers below are impossible."""
    high: float | None = None
    whole: bool = False
    """Fractions are impossible."""
    expected: str = ""
    """What is possible, in words."""

    def parse(self, cell: str) -> float | str | None:
        """Reads a cell; None where it means "not known".

        Raises:
            ValueError: it is no number or date, or an impossible one; the message goes on after the column's name.
        """
        text = cell.strip()
        if text in self.missing:
            return None
        if self.kind == "text":
            return self.aliases.get(text, text)
        number = self._date(text) if self.kind == "date" else self.number(text)
        if number is None:
            raise ValueError(f"is {text[:40]!r}, which is not {self._what(text)}")
        if problem := self.problem(number):
            raise ValueError(problem)
        return number

    def problem(self, number: float) -> str | None:
        """Says why a number is impossible; None where it is not."""
        too_low, too_high = self.low is not None and number < self.low, self.high is not None and number > self.high
        if too_low or too_high or (self.whole and not number.is_integer()):
            return f"is {number:g}, not {self.expected}"
        if abs(number) > LARGEST_NUMBER:
            return f"is {number:g}, beyond {LARGEST_NUMBER:g}, which no model here can use"
        return None

    def _what(self, text: str) -> str:
        """Says what a cell must be, where a text is not."""
        if self.kind == "date":
            return f"a date such as {self.shown(19_723)}"
        if (self.decimal, self.thousands, self.unit) == (".", "", ""):
            hint = "; write it with a decimal point and without separators or signs, as in 1234.5"
            return f"a number{hint if split_unit(text) is not None else ''}"
        return f"a number such as {self.example()}"

    def number(self, text: str) -> float | None:
        """Parses a number as this column writes it; None for any other text."""
        if self.unit:
            found = split_unit(text)
            if found is None or found[0] != self.unit:
                return None
            text = found[1]
        if (self.decimal, self.thousands) != (".", ""):
            text = text.translate(_SPACES)
            if not number_pattern(self.decimal, self.thousands).fullmatch(text):
                return None
            text = (text.replace(self.thousands, "") if self.thousands else text).replace(self.decimal, ".")
        return parse_number(text)

    def _date(self, text: str) -> float | None:
        import pandas as pd

        days = days_of(pd.Series([text], dtype="str"), self.pattern).iloc[0]
        return None if math.isnan(days) else float(days)

    def shown(self, number: float) -> str:
        """Writes a number of this column as people read it: dates as such."""
        if self.kind != "date":
            return f"{number:g}"
        import pandas as pd

        time = pd.Timestamp(0, unit="s") + pd.Timedelta(seconds=round(number * 86_400))
        if self.pattern == ISO:
            return f"{time:%Y-%m-%d}" if time == time.normalize() else f"{time:%Y-%m-%dT%H:%M:%SZ}"
        return str(time.strftime(self.pattern))

    def example(self) -> str:
        """Writes 1234.5 as this column does."""
        number = f"1{self.thousands}234{self.decimal}5"
        return f"{number} {self.unit}" if self.unit.isalpha() or self.unit in ("%", "‰") else f"{self.unit}{number}"

    def as_json(self) -> dict[str, Any]:
        default = CellReader(self.kind)
        content = {name: value for name, value in asdict(self).items() if value != getattr(default, name)}
        return {**content, "kind": self.kind, "missing": sorted(self.missing)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(**{**content, "missing": frozenset(content["missing"])})

    def bounded(self, low: float | None, high: float | None, expected: str, whole: bool = False) -> Self:
        """Returns the reader that refuses numbers outside of these bounds."""
        return replace(self, low=low, high=high, expected=expected, whole=whole)


def parse_number(cell: str) -> float | None:
    """Parses a number; returns None for any other text, which includes `inf`, `nan` and Python's `1_000`."""
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in cell else None


def split_unit(text: str) -> tuple[str, str] | None:
    """Splits a cell into its currency or per cent sign, "" where it has none, and the number with its sign.

    Accountants' brackets are a minus: (5.00) is -5.00.
    """
    text = text.translate(_SPACES).strip()
    negative = ""
    if text.startswith("(") and text.endswith(")"):
        text, negative = text[1:-1].strip(), "-"
    elif text[:1] in "+-":
        text, negative = text[1:].strip(), text[0].replace("+", "")
    found = _AROUND.fullmatch(text)
    if found is None or (found["before"] and found["after"]):
        return None
    return found["before"] or found["after"] or "", negative + found["body"]


def number_pattern(decimal: str, thousands: str) -> re.Pattern[str]:
    """Returns the pattern of numbers with this decimal sign, and this separator of thousands or none at all."""
    if (decimal, thousands) not in _patterns:
        grouped = rf"\d{{1,3}}(?:{re.escape(thousands)}\d{{3}})+|\d+" if thousands else r"\d+"
        _patterns[decimal, thousands] = re.compile(rf"[+-]?(?:{grouped})(?:{re.escape(decimal)}\d+)?")
    return _patterns[decimal, thousands]


_patterns: dict[tuple[str, str], re.Pattern[str]] = {}


def days_of(texts: "pd.Series", pattern: str) -> "pd.Series":
    """Parses dates as days since 1970-01-01 in UTC; NaN where a text is no such date. Without a zone it is UTC's."""
    import pandas as pd

    times = pd.to_datetime(texts, format=pattern, utc=True, errors="coerce")
    return (times - pd.Timestamp(0, unit="s", tz="UTC")) / pd.Timedelta(days=1)
