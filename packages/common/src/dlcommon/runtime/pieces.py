"""Finished pieces of a run, stored with their checksums, so that a resumed run does not compute them again.

A piece is `piece-0001-NAME.json`, which holds a JSON value, or a folder `piece-0001-NAME` with files of any kind and a
`manifest.json`. Each also holds the run's clock and how many rows of the log it had written.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import read_json, sha256, whole_folder, write_json

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class PieceContext:
    """Records how far a run was when it finished a piece."""

    seconds: float
    """Wall time of the run."""
    cpu_seconds: float
    rows: int
    """Rows of the log so far."""


@dataclass(frozen=True)
class Piece:
    """Holds a finished piece that was read back."""

    context: PieceContext
    value: Any = None
    """The JSON value; None where the piece is a folder of files."""


class PieceStore:
    """Reads and writes the pieces of one run, numbered in the order in which they are asked for."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder, self._say, self._count = folder, say, 0

    def next_path(self, name: str) -> Path:
        """Returns the path of the next piece, without its suffix, and counts it."""
        self._count += 1
        return self.folder / f"piece-{self._count:04d}-{name}"

    def write_value(self, path: Path, value: Any, context: PieceContext) -> Any:
        """Stores a JSON value; returns it as JSON gives it back (tuples are lists)."""
        text = json.dumps(value)
        content = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "value": text, **asdict(context)}
        write_json(path.with_name(f"{path.name}.json"), content)
        return json.loads(text)

    def write_files(self, path: Path, make: Callable[[Path], None], context: Callable[[], PieceContext]) -> None:
        """Stores the files that `make` writes into the folder it is given; all of them, or none."""
        for leftover in self.folder.glob(f".{path.name}.*"):  # of a process that was killed while writing
            shutil.rmtree(leftover, ignore_errors=True)
        with whole_folder(path) as temporary:
            make(temporary)
            files = sorted(file for file in temporary.rglob("*") if file.is_file())
            checksums = {str(file.relative_to(temporary)): sha256(file) for file in files}
            write_json(temporary / MANIFEST, {"files": checksums, **asdict(context())})

    def read(self, path: Path) -> Piece | None:
        """Reads a piece that was finished earlier; None if it is missing, or damaged, which is reported to the user."""
        file = path.with_name(f"{path.name}.json")
        if not file.is_file() and not path.is_dir():
            return None
        piece = _read_value(file) if file.is_file() else _read_files(path)
        if piece is None:
            name = file.name if file.is_file() else path.name
            self._say(f"checkpoint {name} is damaged; it is made again")
        return piece

    def rows_of_whole_pieces(self) -> int:
        """Counts the log's rows up to the last piece of the unbroken sequence of whole ones."""
        rows = 0
        for number, path in enumerate(sorted(self.folder.glob("piece-*")), start=1):
            piece = _read_files(path) if path.is_dir() else _read_value(path)
            if piece is None or not path.name.startswith(f"piece-{number:04d}-"):
                break
            rows = piece.context.rows
        return rows


def _context(stored: dict[str, Any]) -> PieceContext:
    # Earlier versions stored no CPU time.
    return PieceContext(stored["seconds"], stored.get("cpu_seconds", stored["seconds"]), stored["rows"])


def _read_value(file: Path) -> Piece | None:
    try:
        stored: dict[str, Any] = read_json(file)
        if hashlib.sha256(stored["value"].encode()).hexdigest() != stored["sha256"]:
            return None
        return Piece(_context(stored), json.loads(stored["value"]))
    except (UserError, KeyError, TypeError, AttributeError):
        return None


def _read_files(folder: Path) -> Piece | None:
    try:
        stored: dict[str, Any] = read_json(folder / MANIFEST)
        if any(sha256(folder / name) != checksum for name, checksum in stored["files"].items()):
            return None
        return Piece(_context(stored))
    except (UserError, OSError, KeyError, TypeError, AttributeError):
        return None
