"""Reads the items in a source: files, lines, rows of CSV, lines of JSON."""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from dlcommon.runtime.batch_inference.sources import Format, Source
from dlcommon.runtime.data.dataset import DamagedDataError
from dlcommon.runtime.data.delimited import column_names, records, text_lines
from dlcommon.runtime.data.text_encoding import decoded
from dlcommon.runtime.errors import InvalidInputError, UsageError
from dlcommon.runtime.serving.item_fields import fields_by_name, value_from_text
from dlcommon.runtime.serving.service import AnyService

LARGEST_FILE = 100 * 2**20
"""Bytes of a file that is one item."""


@dataclass(frozen=True)
class Entry:
    """One place in a source that holds an item, or should."""

    source: Source
    line: int | None
    """Line or other part of the source, counted from 1; None where the source is one item."""
    raw: dict[str, Any] | InvalidInputError | None
    """The item as a request would send it; why there is none; None for a blank line."""
    size: int = 0
    """Bytes that were read for it."""
    kept: Mapping[str, str] = field(default_factory=dict)
    """Cells of the row that are copied to the answer."""
    part: str = "line"
    """What `line` counts: lines, or what the service calls a part of a file."""

    @property
    def place(self) -> str:
        return self.source.name if self.line is None else f"{self.source.name}, {self.part} {self.line}"


@dataclass(frozen=True)
class ItemReader:
    """Reads items for a service."""

    service: AnyService
    column: str | None = None
    """Column of CSV files that fills the service's text field, or names a file."""
    keep: Sequence[str] = ()
    """Columns that are copied to the answers."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of every item."""
    note: Callable[[str], None] = print
    """Is told what a user should know of a file, such as columns that are not used."""

    def check(self, source: Source) -> None:
        """Checks the columns of a CSV file before anything is computed.

        Raises:
            UsageError: one is missing that the options name, or none fills a field.
        """
        if source.format != "csv" or not source.is_regular:
            return
        try:
            with source.open() as file:
                lines = text_lines(file, Path(source.name), lambda text: None)  # said when it is read
                rows = records(lines, Path(source.name), _separator(source))
                if header := next(rows, None):
                    self._columns(source, header[1])
        except (DamagedDataError, OSError):
            pass  # said again, as that of one source among others, when it is read

    def read(self, source: Source) -> Iterator[Entry]:
        """Yields a source's entries; one that cannot be read further ends with an entry that says why."""
        line, size = None, source.size or 0
        try:
            with source.open() as file:
                entries = {"files": self._file, "lines": self._lines, "csv": self._rows, "jsonl": self._objects}
                for entry in entries[source.format](source, file):
                    line, size = entry.line, max(0, size - entry.size)
                    yield entry
        except DamagedDataError as error:
            yield Entry(source, error.row, InvalidInputError(error.problem), size)
        except OSError as error:
            yield Entry(source, line, InvalidInputError(f"cannot be read ({error.strerror or error})"), size)

    def _file(self, source: Source, file: BinaryIO) -> Iterator[Entry]:
        head = file.peek(64)[:64] if isinstance(file, io.BufferedReader) else b""
        parts = self.service.parts(file, head)
        if parts is None:
            yield Entry(source, None, self._file_item(file, Path(source.name)), source.size or 0)
        else:
            yield from self._parts(source, file, parts)

    def _parts(self, source: Source, file: BinaryIO, parts: Iterator[dict[str, Any]]) -> Iterator[Entry]:
        """Yields the items of a file that holds several; one that cannot be read further ends with what is wrong."""
        assert self.service.part is not None, "a service that finds parts in a file says what they are"
        number = read = 0
        try:
            for number, raw in enumerate(parts, start=1):
                size = max(0, file.tell() - read) if source.is_regular else 0
                read += size
                yield Entry(source, number, {**self.values, **raw}, size, part=self.service.part)
        except InvalidInputError as error:
            place = number + 1 if number else None
            yield Entry(source, place, error, max(0, (source.size or 0) - read), part=self.service.part)

    def _file_item(self, file: BinaryIO, path: Path) -> dict[str, Any] | InvalidInputError:
        content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            return InvalidInputError(f"is larger than {LARGEST_FILE / 2**20:g} MiB")
        if self.service.upload is not None:
            return {**self.values, self.service.upload: content}
        assert self.service.text_field is not None, "checked by default_format"
        try:
            return {**self.values, self.service.text_field: decoded(content, path, self.note)}
        except DamagedDataError as error:
            where = f"line {error.row} " if error.row is not None else ""
            return InvalidInputError(f"{where}{error.problem}")

    def _lines(self, source: Source, file: BinaryIO) -> Iterator[Entry]:
        for number, line in enumerate(text_lines(file, Path(source.name), self.note), start=1):
            yield Entry(source, number, self._text_item(line.rstrip("\r\n"), Path()), len(line.encode()))

    def _text_item(self, text: str, folder: Path) -> dict[str, Any] | InvalidInputError | None:
        """Returns the item of a line or a cell: its text, or the file that it names."""
        if not text.strip():
            return None
        if self.service.text_field is not None:
            return {**self.values, self.service.text_field: text}
        try:
            with (folder / text.strip()).open("rb") as file:
                return self._file_item(file, folder / text.strip())
        except (OSError, ValueError) as error:  # ValueError: a zero byte
            reason = getattr(error, "strerror", None) or error
            return InvalidInputError(f"{folder / text.strip()} cannot be read ({reason})")

    def _objects(self, source: Source, file: BinaryIO) -> Iterator[Entry]:
        for number, line in enumerate(text_lines(file, Path(source.name), self.note), start=1):
            raw: dict[str, Any] | InvalidInputError | None = None
            if line.strip():
                try:
                    parsed = json.loads(line)
                    if isinstance(parsed, dict):
                        raw = {**self.values, **parsed}
                    else:
                        raw = InvalidInputError("is not an object in JSON, such as " + json.dumps(self._example()))
                except (ValueError, RecursionError) as error:
                    raw = InvalidInputError(f"is not JSON ({error})")
            yield Entry(source, number, raw, len(line.encode()))

    def _example(self) -> dict[str, Any]:
        example = {name: value for name, value in self.service.example.items() if len(str(value)) < 100}
        return example or dict.fromkeys(list(self.service.example)[:1], "…")

    def _rows(self, source: Source, file: BinaryIO) -> Iterator[Entry]:
        size = 0

        def counted() -> Iterator[str]:
            nonlocal size
            for line in text_lines(file, Path(source.name), self.note):
                size += len(line.encode())
                yield line

        rows = records(counted(), Path(source.name), _separator(source))
        header = next(rows, None)
        if header is None:
            raise DamagedDataError(Path(source.name), "the file is empty")
        names, column = self._columns(source, header[1])
        if column is None:
            self._note_columns(source, names)
        folder = source.path.parent if source.path is not None else Path()
        for line, cells in rows:
            raw: dict[str, Any] | InvalidInputError | None
            row = dict(zip(names, cells, strict=False))
            if len(cells) != len(names):
                problem = f"has {len(cells)} cells where the header names {len(names)} columns"
                raw = InvalidInputError(problem)
            elif column is not None:
                raw = self._text_item(row[column], folder)
            else:
                raw = self._row_item(row)
            yield Entry(source, line, raw, size, {name: row.get(name, "") for name in self.keep})
            size = 0

    def _row_item(self, row: Mapping[str, str]) -> dict[str, Any] | InvalidInputError:
        try:
            return {**self.values, **self.service.item_from_row(row)}
        except InvalidInputError as error:
            return error

    def _columns(self, source: Source, header: Sequence[str]) -> tuple[list[str], str | None]:
        """Returns the names of a table's columns, and the one that holds texts or paths (None: all fill fields).

        Raises:
            UsageError: a column is missing that the options name, or none fills a field.
        """
        names = column_names(header)
        shown = ", ".join(names[:100])
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(f"{source.name}: the header names column {twice[0]!r} {names.count(twice[0])} times")
        for wanted in (*([self.column] if self.column is not None else ()), *self.keep):
            if wanted not in names:
                raise UsageError(f"{source.name} has no column {wanted!r}; its columns are {shown}")
        if self.column is not None:
            return names, self.column
        if (text := self.service.text_field) is not None:
            if text in names or len(names) == 1:
                return names, text if text in names else names[0]
            raise UsageError(f"{source.name}: which column holds the texts? Type --column with one of {shown}")
        if self.service.upload is not None:
            raise UsageError(f"{source.name}: which column holds the paths of files? Type --column with one of {shown}")
        wanted_columns = self.service.row_columns
        if not set(names) & set(wanted_columns):
            raise UsageError(
                f"{source.name} has none of the columns that the model takes ({', '.join(wanted_columns)}), but {shown}"
            )
        return names, None

    def _note_columns(self, source: Source, names: Sequence[str]) -> None:
        """Says which columns the rows lack, and which are not used."""
        wanted = self.service.row_columns
        absent = [name for name in wanted if name not in names]
        unused = [name for name in names if name not in wanted and name not in self.keep]
        parts = [f"has no {', '.join(absent)}, so they count as not known"] if absent else []
        parts += [f"{', '.join(unused)} {'are' if len(unused) > 1 else 'is'} not used"] if unused else []
        if parts:
            self.note(f"{source.name}: {'; '.join(parts)}")


def _separator(source: Source) -> str | None:
    """Returns the separator that the ending of a source's name says."""
    return "\t" if source.path is not None and source.path.suffix.lower() == ".tsv" else None


def default_format(service: AnyService, forced: Format | None) -> Format:
    """Returns how a source is read whose name's ending says nothing.

    Raises:
        UsageError: the service's items cannot be read in the forced format.
    """
    takes_text, takes_files = service.text_field is not None, service.upload is not None
    if forced in ("files", "lines") and not (takes_text or takes_files):
        raise UsageError(f"--format {forced}: an item of this model is neither a file nor a text; give rows of CSV")
    if takes_files and not service.text:
        return "files"
    return "lines" if takes_text else "csv"


def values_of(service: AnyService, settings: Sequence[str]) -> dict[str, Any]:
    """Reads the settings `NAME=VALUE` of further fields.

    Raises:
        UsageError: one has another form, or the item has no such field.
    """
    fields = fields_by_name(service.item)
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting}: write NAME=VALUE, such as --set {next(iter(fields))}=…")
        if name not in fields:
            raise UsageError(f"--set {setting}: an item has no field {name!r}; it has {', '.join(fields)}")
        values[name] = value_from_text(fields[name], text)
    return values
