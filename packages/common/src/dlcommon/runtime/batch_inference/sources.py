"""Finds the inputs that the words of a command line name: files, folders, globs, stdin."""

import glob
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from dlcommon.runtime.errors import UsageError, UserError

Format = Literal["files", "lines", "csv", "jsonl"]
"""How a source holds items: it is one; one a line; one a row; one a line, as JSON."""

SUFFIXES: dict[Format, tuple[str, ...]] = {
    "lines": (".txt", ".text", ".md"),
    "csv": (".csv", ".tsv"),
    "jsonl": (".jsonl", ".ndjson"),
}
STDIN = "-"


@dataclass(frozen=True)
class Source:
    """One input: a file, or stdin."""

    path: Path | None
    """None for stdin."""
    format: Format
    folder: Path | None = None
    """The folder that was named, where the file was found below one."""

    @property
    def name(self) -> str:
        """The path as it is shown; bytes of a name that are no text are replaced."""
        return os.fsencode(self.path).decode("utf-8", "replace") if self.path is not None else "stdin"

    @property
    def is_regular(self) -> bool:
        """Whether it is a file that can be read more than once, not a pipe."""
        return self.path is not None and self.path.is_file()

    @property
    def size(self) -> int | None:
        """Bytes; None where that is not known before it is read."""
        return self.path.stat().st_size if self.path is not None and self.path.is_file() else None

    def open(self) -> BinaryIO:
        """Opens it for reading.

        Raises:
            OSError: it cannot be opened.
        """
        if self.path is not None:
            return self.path.open("rb")
        if sys.stdin is None:
            raise OSError("it is closed")
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb")


@dataclass
class Sources:
    """All inputs in order, and what was passed over in folders."""

    found: list[Source] = field(default_factory=list)
    hidden: int = 0
    others: Counter[str] = field(default_factory=Counter)
    """Files that hold no items, by the ending of their name."""

    @property
    def size(self) -> int | None:
        """Bytes of all sources together; None where one's is not known."""
        sizes = [source.size for source in self.found]
        return None if None in sizes else sum(size or 0 for size in sizes)

    def passed_over(self) -> str:
        """Says what was passed over, if anything."""
        parts = [f"{count} {suffix or 'without an ending'}" for suffix, count in sorted(self.others.items())]
        parts += [f"{self.hidden} hidden"] if self.hidden else []
        return f"passed over in folders: {', '.join(parts)}" if parts else ""


def format_of(path: Path | None, default: Format) -> Format:
    """Returns the format that the ending of a name says, or the default."""
    suffix = path.suffix.lower() if path is not None else ""
    return next((one for one in ("csv", "jsonl") if suffix in SUFFIXES[one]), default)


def find_sources(words: Sequence[str], default: Format, forced: Format | None, files: Sequence[str]) -> Sources:
    """Finds what the words name, in their order; the files of a folder or a glob in natural order.

    Args:
        words: paths, globs, `-`.
        default: format of what the ending of its name says nothing of.
        forced: format of all sources, whatever they are called.
        files: endings of the names of files that are items as a whole; looked for in folders.

    Raises:
        UsageError: a word names nothing.
    """
    if list(words).count(STDIN) > 1:
        raise UsageError("- names stdin, which can be read once; type it once")
    sources = Sources()
    wanted: Sequence[str] = files if (forced or default) == "files" else SUFFIXES[forced or default]
    if forced is None:
        wanted = (*wanted, *(() if default == "files" else SUFFIXES["csv"] + SUFFIXES["jsonl"]))
    for word in words:
        for path, folder in _paths(word, wanted, sources):
            sources.found.append(Source(path, forced or format_of(path, default), folder))
    return sources


def _paths(word: str, wanted: Sequence[str], sources: Sources) -> Iterator[tuple[Path | None, Path | None]]:
    """Yields the paths that one word names, each with the folder that it was found below."""
    path = Path(word).expanduser()
    if word == STDIN:
        yield None, None
    elif path.is_dir():
        yield from _below(path, wanted, sources)
    elif path.exists():
        yield path, None
    elif glob.has_magic(word):
        # Unlike Path.glob it takes absolute patterns as well, and passes over what is hidden.
        found = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207
        matched = sorted((match for match in found if not is_hidden(match)), key=natural_key)
        files = [match for match in matched if not match.is_dir()]
        if not matched:
            raise UsageError(f"no file matches {word!r}")
        if files:
            yield from ((file, None) for file in files)
        else:
            for folder in matched:
                yield from _below(folder, wanted, sources)
    else:
        raise UsageError(f"there is no file or folder {word!r}")


def _below(folder: Path, wanted: Sequence[str], sources: Sources) -> Iterator[tuple[Path, Path]]:
    """Yields the files of a folder and of those below it.

    Raises:
        UsageError: there are none.
        UserError: a folder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise UserError(f"{error.filename} cannot be read ({error.strerror})")

    count = 0
    for place, folders, files in os.walk(folder, onerror=fail):
        hidden = [name for name in (*folders, *files) if is_hidden(Path(name))]
        sources.hidden += len(hidden)
        folders[:] = sorted((name for name in folders if name not in hidden), key=_natural)
        for name in sorted((name for name in files if name not in hidden), key=_natural):
            suffix = Path(name).suffix.lower()
            if suffix in wanted:
                count += 1
                yield Path(place, name), folder
            else:
                sources.others[suffix] += 1
    if not count:
        noted = f"; {sources.passed_over()}" if sources.passed_over() else ""
        raise UsageError(f"{folder} holds no file that ends in {', '.join(wanted)}{noted}")


def is_hidden(path: Path) -> bool:
    """Tells whether a path is one that no file manager shows: `.name`, `._name` and `__MACOSX` of macOS archives."""
    return any((part.startswith(".") and part not in (".", "..")) or part == "__MACOSX" for part in path.parts)


def natural_key(path: Path) -> list[list[tuple[int, int | str]]]:
    """Orders paths as people do: `page 9` before `page 10`."""
    return [_natural(part) for part in path.parts]


def _natural(name: str) -> list[tuple[int, int | str]]:
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(part)) if place % 2 else (1, part.casefold()) for place, part in enumerate(parts)]
