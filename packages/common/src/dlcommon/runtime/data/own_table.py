"""Reads a table that nobody has described: a user's own CSV file, however long or wide it is."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dlcommon.runtime.data.cells import CellReader
from dlcommon.runtime.data.dataset import DamagedDataError
from dlcommon.runtime.data.delimited import records, separator_of, text_lines
from dlcommon.runtime.data.guessed_cells import guess, thousands_with_points
from dlcommon.runtime.data.table import named_columns, read_cells, whole_rows
from dlcommon.runtime.data.text_encoding import Note, say
from dlcommon.runtime.localization import LocalizedText

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS, MOST_COLUMNS = 100_000, 200
"""Of longer tables a random sample is read, of wider ones the first columns."""
MOST_CELLS = 4_000_000
"""Bounds the memory: about 400 MB while they are read."""
SECONDS_BETWEEN_NOTES = 5.0


@dataclass(frozen=True)
class OwnTable:
    """Holds a user's table."""

    frame: "pd.DataFrame"
    """Its index counts the rows from 0."""
    readers: Mapping[str, CellReader]
    notes: Sequence[LocalizedText]
    """What a user should know: how columns are read, what is left out."""
    rows: int
    """Of the file, of which the frame may be a sample."""
    lines: Sequence[int]
    """The line in the file of each row of the frame."""


def read_own_table(
    path: Path, note: Note = say, rows: int = MOST_ROWS, columns: int = MOST_COLUMNS, wanted: Sequence[str] = ()
) -> OwnTable:
    """Reads a user's CSV file, and guesses how the cells of each column are meant.

    Args:
        note: is told of progress in large files, and of another encoding than UTF-8.
        rows: of a longer file that many are drawn at random, always the same ones.
        columns: of a wider file the first are kept.
        wanted: columns that are kept in any case.

    Raises:
        DamagedDataError: the file cannot be read as text, is empty, names a column twice, has a row that is too long
            or too short; says in which line.
    """
    import pandas as pd

    path = path.expanduser()
    notes: list[LocalizedText] = []

    def encoding(text: str) -> None:
        notes.append(LocalizedText(text + ".", f"{path.name} 不是 UTF-8，已自动识别编码：{text}。"))
        note(text)

    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            lines = _LinesWithProgress(text_lines(file, path, encoding), file.tell, size, path.name, note)
            # The first line that is no instruction to Excel shows the separator.
            every = records(iter(lines), path)
            start, names = named_columns(every, path)
            del start
            kept = _kept_columns(names, columns, wanted)
            most = max(1, min(rows, MOST_CELLS // len(kept)))
            sample, count = _drawn(whole_rows(every, len(names), path), [names.index(name) for name in kept], most)
    except OSError as error:
        raise DamagedDataError(path, f"cannot be read ({error.strerror})") from error
    if not count:
        raise DamagedDataError(path, "the file has a header, but no rows")
    if count > len(sample):
        notes.append(LocalizedText(
            f"{path.name} has {count:,} rows; {len(sample):,} of them, drawn at random, are read.",
            f"{path.name} 共 {count:,} 行，随机抽取其中 {len(sample):,} 行。",
        ))  # fmt: skip
    if len(kept) < len(names):
        notes.append(LocalizedText(
            f"{path.name} has {len(names):,} columns; the first {len(kept):,} of them are read. "
            f"To read others, put them first or leave columns out of the file.",
            f"{path.name} 共 {len(names):,} 列，只读取前 {len(kept):,} 列；如需其他列，请移到前面。",
        ))  # fmt: skip
    cells = dict(zip(kept, zip(*(row for _, row in sample), strict=True), strict=True))
    readers, told = _readers(cells, lines.separator)
    index = pd.Index([line for line, _ in sample], name="line")
    frame = pd.DataFrame({name: read_cells(name, cells[name], readers[name], index, path) for name in kept}, index)
    return OwnTable(frame.reset_index(drop=True), readers, [*notes, *told], count, list(index))


def _kept_columns(names: Sequence[str], most: int, wanted: Sequence[str]) -> list[str]:
    """Returns the first columns and those that are wanted, in the file's order."""
    if len(names) <= most:
        return list(names)
    needed = set(wanted) & set(names)
    first = [name for name in names if name not in needed][: max(0, most - len(needed))]
    return [name for name in names if name in needed or name in set(first)]


def _drawn(
    rows: Iterator[tuple[int, list[str]]], places: Sequence[int], most: int
) -> tuple[list[tuple[int, list[str]]], int]:
    """Draws at most that many rows, each equally likely (Vitter 1985, algorithm R), and keeps their order.

    Returns:
        The line and the chosen cells of each, and how many rows there are.
    """
    generator = random.Random(0)
    sample: list[tuple[int, list[str]]] = []
    count = 0
    for count, (line, cells) in enumerate(rows, start=1):
        place = count - 1 if count <= most else generator.randrange(count)
        if place < most:
            chosen = (line, [cells[one] for one in places])
            if count <= most:
                sample.append(chosen)
            else:
                sample[place] = chosen
    return sorted(sample, key=lambda row: row[0]), count


def _readers(cells: Mapping[str, Sequence[str]], separator: str) -> tuple[dict[str, CellReader], list[LocalizedText]]:
    """Guesses the reader of every column, and says what a user should know of them."""
    readers: dict[str, CellReader] = {}
    notes: list[LocalizedText] = []
    for name, column in cells.items():
        readers[name], told = guess(name, column, separator)
        notes += told
    if any(reader.decimal == "," for reader in readers.values()):
        for name, reader in readers.items():
            if (grouped := thousands_with_points(reader, cells[name])) is not None:
                readers[name] = grouped
                notes.append(LocalizedText(
                    f"{name} is read as numbers with points between thousands, since others have decimal commas.",
                    f"{name} 中的点按千位分隔符读取，因为其他列使用逗号作小数点。",
                ))  # fmt: skip
    return readers, notes


class _LinesWithProgress:
    """Passes lines on, notes now and then how much of the file is read, and remembers the separator."""

    def __init__(self, lines: Iterator[str], tell: Callable[[], int], size: int, name: str, note: Note) -> None:
        self._lines, self._tell, self._size, self._name, self._note = lines, tell, size, name, note
        self._first: list[str] = []

    def __iter__(self) -> Iterator[str]:
        due = time.monotonic() + SECONDS_BETWEEN_NOTES
        for number, line in enumerate(self._lines):
            if number < 3:
                self._first.append(line)
            if number % 4096 == 0 and time.monotonic() > due:
                due += SECONDS_BETWEEN_NOTES
                self._note(f"reading {self._name}: {100 * self._tell() / max(1, self._size):.0f} %")
            yield line

    @property
    def separator(self) -> str:
        """The separator of the file's cells."""
        told = [line.strip().strip('"') for line in self._first if line.strip()]
        if told and told[0].lower().startswith("sep="):
            return told[0][4:5]
        return separator_of(told[0]) if told else ","
