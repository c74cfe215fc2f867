"""Keeps a command's work going where its output cannot be taken: by a terminal's encoding, a closed pipe, a full disk.

Text that the encoding lacks is written as plainly as need be. Once a stream cannot be written any more, because its
reader has left (`| head -1`) or the disk is full, what follows is dropped and the command goes on, whose work is in
files. Unless the reader has left, the command then ends with exit code 1, since its text was asked for.
"""

import codecs
import errno
import io
import os
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO, cast

PLAIN = "dlcommon.plain"
"""Name of the error handler that writes in ASCII what an encoding lacks."""

SPELLINGS = {
    "·": "*", "•": "*", "…": "...", "–": "-", "—": "-", "−": "-", "→": "->", "←": "<-", "✓": "ok", "✗": "x",
    "×": "x", "±": "+-", "≥": ">=", "≤": "<=", "≈": "~", "⁄": "/", "“": '"', "”": '"', "„": '"', "‘": "'", "’": "'",
    "█": "#", "─": "-", "━": "-", "│": "|", "┃": "|",
}  # fmt: skip

GONE = frozenset({errno.EPIPE, errno.ECONNRESET} | ({errno.EINVAL} if os.name == "nt" else set()))
"""Error numbers of a stream whose reader has left."""


def plain(character: str) -> str:
    """Spells a character in ASCII; a question mark stands for what has no such spelling."""
    if character in SPELLINGS:
        return SPELLINGS[character]
    if "\udc80" <= character <= "\udcff":  # a byte of a file name that is no text
        return f"\\x{ord(character) - 0xDC00:02x}"
    if "\u2500" <= character <= "\u257f":  # the corners of boxes
        return "+"
    parts = unicodedata.normalize("NFKD", character)
    return "".join(SPELLINGS.get(part, part) for part in parts).encode("ascii", "ignore").decode() or "?"


def _encode_plainly(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(plain, error.object[error.start : error.end])), error.end


class Stream(io.TextIOWrapper):
    """Writes text for as long as somebody takes it, and drops what comes later."""

    lost: OSError | None = None
    """Why nothing is written any more."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._give_up(error)

    @property
    def failed(self) -> bool:
        """Whether text was lost that somebody still waits for."""
        return self.lost is not None and self.lost.errno not in GONE

    def _give_up(self, error: OSError) -> None:
        if self.lost is not None:
            return
        self.lost = error
        # What is buffered would fail again when the interpreter ends, so it goes where everything fits.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)
        if self.failed and self is sys.stdout:
            print(f"stdout cannot be written ({error.strerror}); going on without it", file=sys.stderr, flush=True)


def prepare() -> None:
    """Makes this process's stdout and stderr streams of this kind; called once, by a command's script.

    A stream that the process was started without (`2>&-`) becomes the null device: else the next file that is opened
    would get its number, and whatever a library prints there.
    """
    codecs.register_error(PLAIN, _encode_plainly)
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        wrapped = _wrapped(stream)
        setattr(sys, name, wrapped)
        setattr(sys, f"__{name}__", wrapped)
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115


def _wrapped(stream: TextIO) -> TextIO:
    if type(stream) is not io.TextIOWrapper:  # a test's or a notebook's own
        return stream
    chosen = stream.errors in ("ignore", "replace", "xmlcharrefreplace", "namereplace")  # by PYTHONIOENCODING
    options: dict[str, Any] = {
        "encoding": stream.encoding,
        "errors": stream.errors if chosen else PLAIN,
        "line_buffering": stream.line_buffering,
        "write_through": stream.write_through,
    }
    return Stream(cast(io.BufferedWriter, stream.detach()), **options)


def run(action: Callable[[], int]) -> int:
    """Prepares the streams, and returns the action's exit code: 1 where its text could not be written."""
    prepare()
    try:
        code = action()
    except SystemExit as stop:  # tyro's, after `--help` or a wrong flag
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        code = 1 if isinstance(stop.code, str) else stop.code or 0
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return code or int(isinstance(sys.stdout, Stream) and sys.stdout.failed)
