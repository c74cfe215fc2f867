"""`eda-report FILE`: the analysis of a CSV file, without fitting a model."""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from dlcommon.runtime.cli import guarded
from dlcommon.runtime.errors import UsageError
from dlcommon.runtime.files import write_bytes


@dataclass(frozen=True)
class Options:
    """Analyse any CSV file: one HTML page that opens offline."""

    file: tyro.conf.Positional[Path]
    """CSV file with a header line."""
    target: str | None = None
    """The column that the others are to explain."""
    output: Path | None = None
    """Where the page goes; by default beside the file, as NAME-report.html."""


def make(options: Options) -> Path:
    """Writes the page; returns its path.

    Raises:
        UserError: the file cannot be read, or the target cannot be used.
    """
    from dlcommon.runtime.data.own_table import read_own_table
    from dlcommon.runtime.data.table import Table
    from dlcommon.runtime.data.text_encoding import say

    from eda_titanic.report import page, pictures

    wanted = [options.target] if options.target is not None else []
    read = read_own_table(options.file, say, wanted=wanted)
    frame = read.frame
    for note in read.notes:
        say(f"note: {note.en}")
    if options.target is None:
        subject = pictures.without_target(frame, read.readers, read.notes)
    elif options.target not in frame:
        raise UsageError(f"--target {options.target}: no such column; choose one of {', '.join(frame.columns)}")
    else:
        subject = pictures.subject_of(Table(frame, None, options.target, None, read.readers, read.notes))
    path = options.output or options.file.with_name(f"{options.file.stem}-report.html")
    write_bytes(path, page.render(subject, options.file.name, note=say).encode())
    return path


def main() -> None:
    """Runs the console script `eda-report`."""

    def run() -> int:
        print(f"report: {make(tyro.cli(Options, prog='eda-report'))}")
        return 0

    sys.exit(guarded(run))
