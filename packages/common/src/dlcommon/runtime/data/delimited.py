"""Reads lines of text, and the records of CSV and TSV files, one at a time."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from dlcommon.runtime.data.dataset import DamagedDataError
from dlcommon.runtime.data.text_encoding import Note, recognized, shown

SEPARATORS = ",;\t|"
LONGEST_LINE = 1 << 24
"""Characters in a line, and in a cell, beyond which a file is not taken for text."""
csv.field_size_limit(LONGEST_LINE)
_UNDECODED = re.compile("[\udc80-\udcff]")
_SEPARATOR_ROW = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
"""The first line in which Excel is told the separator."""


def text_lines(file: BinaryIO, path: Path, note: Note | None = None) -> Iterator[str]:
    r"""Yields the lines of text with their ends (\n, \r\n or \r), without a byte-order mark; then closes the file.

    Args:
        path: the file that errors name.
        note: is told of another encoding than UTF-8, which is then recognized; None: only UTF-8 is read. What cannot
            be read twice, such as a pipe, must be UTF-8.

    Raises:
        DamagedDataError: in another encoding, or not text at all; says in which line.
    """
    encoding = recognized(file, path, note) if note is not None and file.seekable() else "utf-8-sig"
    # Bytes that are no UTF-8 become lone surrogates, so that the line that holds them is known.
    errors = "strict" if encoding == "utf-16" else "surrogateescape"
    text = io.TextIOWrapper(file, encoding=encoding, errors=errors, newline="")
    number = 0
    with text:
        while line := _next_line(text, path, number + 1):
            number += 1
            _check_text(line, path, number, shown(encoding))
            yield line


def _next_line(text: io.TextIOWrapper, path: Path, number: int) -> str:
    try:
        return text.readline(LONGEST_LINE + 1)
    except UnicodeError as error:
        raise DamagedDataError(path, f"is damaged UTF-16 text ({error}); save it as UTF-8", number) from error


def _check_text(line: str, path: Path, number: int, encoding: str) -> None:
    if number == 1 and line.startswith(("\udcff\udcfe", "\udcfe\udcff")):
        raise DamagedDataError(path, "is UTF-16 text; save it as UTF-8", 1)
    if "\0" in line:
        raise DamagedDataError(path, "is not text: it holds a zero byte", number)
    if not line.isascii() and (found := _UNDECODED.search(line)):
        problem = f"is not {encoding} text: byte 0x{ord(found[0]) - 0xDC00:02x}; save it as UTF-8"
        raise DamagedDataError(path, problem, number)
    if len(line) > LONGEST_LINE:
        raise DamagedDataError(path, f"is longer than {LONGEST_LINE:,} characters, so it is hardly text", number)


def separator_of(header: str) -> str:
    """Returns the separator that a header uses most often outside of quotes; of equally many, the first."""
    bare = re.sub(r'"(?:[^"]|"")*"?', "", header)
    return max(SEPARATORS, key=bare.count)


def records(lines: Iterator[str], path: Path, separator: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """Yields the line that each record begins in (from 1), and its cells; blank lines are no records.

    Args:
        lines: as `text_lines` yields them; a first one that reads `sep=;` is obeyed and passed over.
        path: the file that errors name.
        separator: by default what the first line says, or the header uses.

    Raises:
        DamagedDataError: not valid CSV; says in which line.
    """
    line = 1
    for first in lines:
        if told := _SEPARATOR_ROW.fullmatch(first):
            separator = separator or told[1]
        elif first.strip():
            break
        line += 1
    else:
        return
    separator = separator or separator_of(first)
    reader = csv.reader(_chain(first, lines), delimiter=separator, strict=True)
    before = line - 1
    try:
        for record in reader:
            if record and (len(record) > 1 or record[0].strip()):
                yield line, record
            line = before + reader.line_num + 1
    except csv.Error as error:
        raise DamagedDataError(path, f"is not valid CSV ({error})", line) from error


def column_names(header: Sequence[str]) -> list[str]:
    """Returns the columns' names; one without gets its number."""
    return [name.strip() or f"column {number}" for number, name in enumerate(header, start=1)]


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest
