"""Guesses how the cells of a column are meant that nobody has described, and says so where it could be otherwise."""

import re
from collections.abc import Sequence
from dataclasses import replace

from dlcommon.runtime.data.cells import (
    ISO,
    LARGEST_NUMBER,
    MISSING,
    CellReader,
    days_of,
    number_pattern,
    parse_number,
    split_unit,
)
from dlcommon.runtime.localization import LocalizedText

EXACT = 2**53
"""Integers below are exact as floating-point numbers."""
_LEADING_ZERO = re.compile(r"[+-]?0\d+")
_INTEGER = re.compile(r"[+-]?\d+")
_INFINITE = re.compile(r"[+-]?(?:inf|infinity|∞|1\.#inf)", re.IGNORECASE)
_MAY_BE_DATE = re.compile(
    r"\d{1,4}[-/.年 ]\d{1,2}[-/.月 ]\d{1,4}.*|\d{1,2} [A-Za-z]{3} \d{4}|[A-Za-z]{3} \d{1,2}, \d{4}"
)
_ISO_DATE = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?\s?(?:Z|UTC|[+-]\d{2}(?::?\d{2})?)?)?"
)
_TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S%z", " %H:%M:%S %z")
_DATES = ("%d.%m.%Y", "%Y/%m/%d", "%Y.%m.%d", "%Y年%m月%d日", "%d %b %Y", "%b %d, %Y")
_AMBIGUOUS = ("%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y")
_NUMBERS = ((".", ","), (",", "."), (",", " "), (".", " "), (".", "'"), (",", ""))
"""Decimal signs and separators of thousands."""


def guess(name: str, cells: Sequence[str], separator: str) -> tuple[CellReader, list[LocalizedText]]:
    """Guesses how a column's cells are read.

    Args:
        separator: of the file's cells; with semicolons a comma is rather a decimal sign.

    Returns:
        The reader, which reads all of the cells, and what a user should know of it.
    """
    spelled = dict.fromkeys(cell.strip() for cell in cells)
    known = [cell for cell in spelled if cell not in MISSING]
    notes: list[LocalizedText] = []
    if not known:
        return CellReader("number"), notes
    infinite = frozenset(cell for cell in known if _INFINITE.fullmatch(cell) or _is_too_large(cell))
    finite = [cell for cell in known if cell not in infinite]
    if finite and all(_INTEGER.fullmatch(cell) or parse_number(cell) is not None for cell in finite):
        return _plain(name, finite, infinite)
    if len(infinite) == len(known):
        infinite = frozenset()
    if (reader := _written_otherwise(finite, separator)) is not None:
        sign = f"{reader.unit!r}, " if reader.unit else ""
        separated = reader.thousands and any(reader.thousands in cell for cell in finite)
        thousands = f"thousands {reader.thousands!r}, " if separated else ""
        notes.append(LocalizedText(
            f"{name} is read as numbers ({sign}{thousands}decimal {reader.decimal!r}): {finite[0]!r} is "
            f"{reader.number(finite[0]):g}.",
            f"{name} 按数值读取（{sign}{thousands}小数点 {reader.decimal!r}）：{finite[0]!r} 即 "
            f"{reader.number(finite[0]):g}。",
        ))  # fmt: skip
        return replace(reader, missing=MISSING | infinite), [*notes, *_left_out(name, infinite)]
    pattern, ambiguous = _date_pattern(finite)
    if pattern:
        notes.append(LocalizedText(f"{name} is read as dates.", f"{name} 按日期读取。"))
        return CellReader("date", pattern=pattern), notes
    if ambiguous:
        notes.append(LocalizedText(
            f"{name} may hold dates, but day and month cannot be told apart in {finite[0]!r}: it is taken as text. "
            f"Write dates as 2024-12-31.",
            f"{name} 可能是日期，但 {finite[0]!r} 中无法区分日和月，因此按文本处理。请写成 2024-12-31 的形式。",
        ))  # fmt: skip
    if words := sorted(set(spelled) & (MISSING - {""})):
        notes.append(LocalizedText(
            f"{name}: cells that read {', '.join(words)} count as not known.",
            f"{name}：内容为 {'、'.join(words)} 的单元格视为未知。",
        ))  # fmt: skip
    return CellReader("text"), notes


def thousands_with_points(reader: CellReader, cells: Sequence[str]) -> CellReader | None:
    """Returns the reader of plain numbers that, beside columns with decimal commas, are rather thousands: 1.234."""
    if reader.kind != "number" or (reader.decimal, reader.thousands, reader.unit) != (".", "", ""):
        return None
    known = [cell for raw in cells if (cell := raw.strip()) not in reader.missing]
    grouped = re.compile(r"[+-]?(?:\d{1,3}(?:\.\d{3})+|\d{1,3})")
    if any("." in cell for cell in known) and all(grouped.fullmatch(cell) for cell in known):
        return replace(reader, decimal=",", thousands=".")
    return None


def _is_too_large(cell: str) -> bool:
    try:
        return "_" not in cell and abs(float(cell)) > LARGEST_NUMBER and not _INTEGER.fullmatch(cell)
    except ValueError:
        return False


def _is_inexact(digits: str) -> bool:
    return len(digits) > 16 or (len(digits) == 16 and int(digits) >= EXACT)


def _plain(name: str, known: Sequence[str], infinite: frozenset[str]) -> tuple[CellReader, list[LocalizedText]]:
    """Returns the reader of cells that are numbers by Python's spelling, or only look like them."""
    zeros = [cell for cell in known if _LEADING_ZERO.fullmatch(cell)]
    if zeros:
        return CellReader("text"), [LocalizedText(
            f"{name} has leading zeros ({zeros[0]}), so it is kept as text, as a code is.",
            f"{name} 有前导零（{zeros[0]}），因此保留为文本（编号）。",
        )]  # fmt: skip
    long = [cell for cell in known if _INTEGER.fullmatch(cell) and _is_inexact(cell.lstrip("+-0"))]
    if 2 * len(long) > len(known):
        return CellReader("text"), [LocalizedText(
            f"{name} holds integers of up to {max(len(cell.lstrip('+-')) for cell in long)} digits, more than a number "
            f"keeps, so it is kept as text: an identifier.",
            f"{name} 含有多达 {max(len(cell.lstrip('+-')) for cell in long)} 位的整数，超出数值精度，因此保留为文本。",
        )]  # fmt: skip
    infinite |= {cell for cell in long if abs(float(cell)) > LARGEST_NUMBER}
    return CellReader("number", MISSING | infinite), _left_out(name, infinite)


def _left_out(name: str, infinite: frozenset[str]) -> list[LocalizedText]:
    if not infinite:
        return []
    some = ", ".join(sorted(infinite)[:3])
    return [LocalizedText(
        f"{name}: infinite numbers and those beyond {LARGEST_NUMBER:g} ({some}) count as not known.",
        f"{name}：无穷大及超过 {LARGEST_NUMBER:g} 的数（{some}）视为未知。",
    )]  # fmt: skip


def _written_otherwise(known: Sequence[str], separator: str) -> CellReader | None:
    """Returns the reader of numbers with other signs than Python's; None where the cells are no such numbers."""
    parts = [split_unit(cell) for cell in known]
    found = [part for part in parts if part is not None]
    units = {unit for unit, _ in found}
    if len(found) < len(known) or len(units) != 1:
        return None
    bodies = [body for _, body in found]
    order: Sequence[tuple[str, str]] = _NUMBERS
    if separator == ";":
        order = sorted(_NUMBERS, key=lambda signs: (signs[0] != ",", signs[1] == ""))
    for decimal, thousands in (*((".", ""),) * bool(units != {""}), *order):
        if all(number_pattern(decimal, thousands).fullmatch(body) for body in bodies):
            return CellReader("number", decimal=decimal, thousands=thousands, unit=units.pop())
    return None


def _date_pattern(known: Sequence[str]) -> tuple[str, bool]:
    """Returns the pattern of dates, "" where there is none or several fit; and whether several do."""
    import pandas as pd

    if not all(_MAY_BE_DATE.fullmatch(cell) for cell in known):
        return "", False
    texts = pd.Series(list(known), dtype="str")
    if all(_ISO_DATE.fullmatch(cell) for cell in known):
        return (ISO, False) if days_of(texts, ISO).notna().all() else ("", False)
    for time in _TIMES:
        for date in _DATES:
            if days_of(texts, date + time).notna().all():
                return date + time, False
        fitting = [date + time for date in _AMBIGUOUS if days_of(texts, date + time).notna().all()]
        if fitting:
            return (fitting[0], False) if len(fitting) == 1 else ("", True)
    return "", False
