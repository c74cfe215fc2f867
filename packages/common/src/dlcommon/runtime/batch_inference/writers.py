"""Writes answers: JSON Lines, CSV, lines of text, a folder of pictures."""

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from dlcommon.runtime.batch_inference.answers import Answered
from dlcommon.runtime.batch_inference.items import Entry
from dlcommon.runtime.batch_inference.sources import Source
from dlcommon.runtime.errors import UsageError
from dlcommon.runtime.files import explained_disk_errors, whole_file, whole_folder
from dlcommon.runtime.serving.item_fields import first_text_field
from dlcommon.runtime.serving.media import media_fields
from dlcommon.runtime.serving.service import AnyService, JointFile, Service

ENDINGS = ".jsonl, .csv, .tsv or .txt, or has no ending, for a folder of pictures"
NO_PICTURES = "these answers hold no pictures, which a folder is for; choose a name that ends in .jsonl, .csv or .tsv"


class Writer(Protocol):
    """Takes entries in order."""

    def write(self, entry: Entry, answered: Answered) -> None:
        """Writes an answer."""
        ...

    def pass_over(self, entry: Entry) -> None:
        """Is told of an entry that has none."""
        ...


class JsonLinesWriter:
    """Writes one JSON object a line: where the item was, the cells kept of its row, its answer."""

    def __init__(self, file: BinaryIO, live: bool = False) -> None:
        """Writes to a file; if `live`, to stdout, each line at once."""
        self._file, self._live = file, live

    def write(self, entry: Entry, answered: Answered) -> None:
        with explained_disk_errors(Path("stdout")) if self._live else nullcontext():
            self._file.write(json_record(entry, answered.answer.model_dump_json()))
            if self._live:
                self._file.flush()

    def pass_over(self, entry: Entry) -> None:
        """Writes nothing."""


def json_record(entry: Entry, answer: str, **further: Any) -> bytes:
    """Returns a line of JSON around an answer that is JSON itself."""
    facts: dict[str, Any] = {"source": entry.source.name}
    facts |= {entry.part: entry.line} if entry.line is not None else {}
    facts |= {"kept": dict(entry.kept)} if entry.kept else {}
    head = json.dumps({**facts, **further}, ensure_ascii=False)
    return f'{head[:-1]}, "answer": {answer}}}\n'.encode()


class CsvWriter:
    """Writes one row an answer, under a header that the first answer decides."""

    def __init__(self, file: BinaryIO, service: AnyService, keep: Sequence[str], separator: str) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        self._service, self._keep, self._separator = service, list(keep), separator
        self._parts = ["line", *([service.part] if service.part is not None else [])]
        self._rows: csv.DictWriter[str] | None = None

    def write(self, entry: Entry, answered: Answered) -> None:
        cells = self._service.cells(answered.answer)
        place: dict[str, Any] = {"source": entry.source.name, **dict.fromkeys(self._parts)}
        if entry.line is not None:
            place[entry.part] = entry.line
        if self._rows is None:
            # A column of the answer goes by its own name; one that is kept and has the same is marked.
            self._kept = {name: f"{name} (kept)" if name in {*place, *cells} else name for name in self._keep}
            names = [*place, *self._kept.values(), *cells]
            self._rows = csv.DictWriter(self._text, names, delimiter=self._separator, lineterminator="\n")
            self._rows.writeheader()
        self._rows.writerow({**place, **{self._kept[name]: cell for name, cell in entry.kept.items()}, **cells})

    def pass_over(self, entry: Entry) -> None:
        """Writes nothing."""


class TextWriter:
    r"""Writes the answers' first text, one line an entry, so that line numbers stay: empty where there is no answer.

    A line break within a text becomes \n.
    """

    def __init__(self, file: BinaryIO, field: str) -> None:
        self._file, self._field = file, field

    def write(self, entry: Entry, answered: Answered) -> None:
        text: str = getattr(answered.answer, self._field)
        self._file.write(text.replace("\r", "").replace("\n", "\\n").encode() + b"\n")

    def pass_over(self, entry: Entry) -> None:
        """Writes an empty line."""
        self._file.write(b"\n")


class FolderWriter:
    """Writes the files of each answer under its input's name, and all answers without them to answers.jsonl."""

    def __init__(self, folder: Path, service: AnyService) -> None:
        self._folder, self._service = folder, service
        self._left_out = set(media_fields(service.answer).values())
        self._taken: set[str] = {"answers"}
        self._answers = (folder / "answers.jsonl").open("wb")
        self._joint: tuple[Source, JointFile[Any, Any]] | None = None

    def write(self, entry: Entry, answered: Answered) -> None:
        if (joint := self._joint_file(entry)) is not None:
            joint.write(answered.item, answered.answer)
            self._record(entry, answered, [joint.path.relative_to(self._folder).as_posix()])
            return
        files = self._service.files(answered.item, answered.answer)
        if not files:
            raise UsageError(NO_PICTURES)
        stem = self._stem(entry, entry.line)
        for ending, content in files.items():
            path = self._folder / f"{stem}{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self._record(entry, answered, [f"{stem}{ending}" for ending in files])

    def _record(self, entry: Entry, answered: Answered, files: list[str]) -> None:
        answer = answered.answer.model_dump_json(exclude=self._left_out)
        self._answers.write(json_record(entry, answer, files=files))

    def _joint_file(self, entry: Entry) -> JointFile[Any, Any] | None:
        """Returns the file that this entry's source has in common; ends that of the source before."""
        if self._joint is not None and self._joint[0] is entry.source:
            return self._joint[1]
        self._end_joint_file()
        if entry.part != self._service.part:
            return None
        stem = self._folder / self._stem(entry)
        stem.parent.mkdir(parents=True, exist_ok=True)
        joint = self._service.joint_file(stem)
        self._joint = (entry.source, joint) if joint is not None else None
        return joint

    def _end_joint_file(self) -> None:
        if self._joint is not None:
            self._joint[1].close()
            self._joint = None

    def pass_over(self, entry: Entry) -> None:
        """Writes nothing."""

    def close(self) -> None:
        try:
            self._end_joint_file()
        finally:
            self._answers.close()

    def _stem(self, entry: Entry, line: int | None = None) -> str:
        """Returns a name of the entry's own, below the folder that was named: `sub/cat`, `prompts-12`."""
        source = entry.source
        path = Path("stdin") if source.path is None else Path(source.path.name)
        if source.path is not None and source.folder is not None:
            path = source.path.relative_to(source.folder)
        wanted = path.with_suffix("").as_posix() + (f"-{line}" if line is not None else "")
        stem, number = wanted, 1
        while stem.casefold() in self._taken:
            number += 1
            stem = f"{wanted}-{number}"
        self._taken.add(stem.casefold())
        return stem


def check_out(out: Path | None, service: AnyService, sources: Sequence[Source]) -> None:
    """Checks that answers can be written there.

    Raises:
        UsageError: the name's ending says no form that these answers have, or something of the user's is in the way.
    """
    if out is None:
        return
    suffix = out.suffix.lower()
    if _is_folder(out):
        if out.is_dir() and any(out.iterdir()):
            raise UsageError(f"--out {out} is a folder that is not empty; name a new one, or a file")
        if out.exists() and not out.is_dir():
            raise UsageError(f"--out {out} is a file; choose a name that ends in {ENDINGS}")
        if type(service).files is Service.files and not media_fields(service.answer):
            raise UsageError(f"--out {out}: {NO_PICTURES}")
    elif suffix not in (".jsonl", ".ndjson", ".csv", ".tsv", ".txt"):
        raise UsageError(f"--out {out}: choose a name that ends in {ENDINGS}")
    elif suffix == ".txt" and first_text_field(service.answer) is None:
        raise UsageError(f"--out {out}: these answers hold no text; choose a name that ends in .jsonl or .csv")
    elif any(source.is_regular and source.path and out.exists() and source.path.samefile(out) for source in sources):
        raise UsageError(f"--out {out} is one of the inputs; choose another name")


def _is_folder(out: Path) -> bool:
    return out.suffix == "" or out.is_dir()


@contextmanager
def open_writer(out: Path | None, service: AnyService, keep: Sequence[str]) -> Iterator[Writer]:
    """Yields what writes to `out`, which is whole or not there afterwards; by default JSON Lines to stdout."""
    if out is None:
        yield JsonLinesWriter(sys.stdout.buffer, live=True)
    elif _is_folder(out):
        with whole_folder(out.resolve()) as folder:
            writer = FolderWriter(folder, service)
            try:
                yield writer
            finally:
                writer.close()
    else:
        with whole_file(out) as file:
            yield _file_writer(file, out.suffix.lower(), service, keep)


def _file_writer(file: BinaryIO, suffix: str, service: AnyService, keep: Sequence[str]) -> Writer:
    if suffix in (".csv", ".tsv"):
        return CsvWriter(file, service, keep, "\t" if suffix == ".tsv" else ",")
    if suffix == ".txt":
        field = first_text_field(service.answer)
        assert field is not None, "checked by `check_out`"
        return TextWriter(file, field)
    return JsonLinesWriter(file)
