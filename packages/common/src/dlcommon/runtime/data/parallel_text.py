"""Defines the type that translation sets are loaded as: the same sentences in several languages."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dlcommon.runtime.data.dataset import DamagedDataError
from dlcommon.runtime.data.text_corpus import read_text
from dlcommon.runtime.data.text_encoding import Note

Split = Literal["train", "validation", "test"]
Lines = Mapping[str, tuple[str, ...]]
"""Sentences by language code, all languages equally many: number i of each says the same."""


@dataclass(frozen=True)
class ParallelText:
    """Holds sentences with their translations in memory."""

    train: Lines
    validation: Lines
    test: Lines

    def pairs(self, split: Split, source: str, target: str) -> list[tuple[str, str]]:
        """Returns sentences of the source language with their translations into the target language."""
        lines: Lines = getattr(self, split)
        return list(zip(lines[source], lines[target], strict=True))

    def contents(self) -> Iterator[bytes]:
        for split in (self.train, self.validation, self.test):
            for language in sorted(split):
                yield f"{language}{len(split[language])}\0".encode()
                yield "\n".join(split[language]).encode()


def read_lines(path: Path, note: Note | None = None) -> tuple[str, ...]:
    """Reads a sentence from each line; lines are counted from 1.

    Only line feeds separate sentences: others that Python calls line ends, such as U+2028, may stand in one.

    Args:
        note: as of `read_text`.

    Raises:
        DamagedDataError: the file is no text, or a line is empty.
    """
    lines = read_text(path, note).removesuffix("\n").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise DamagedDataError(path, f"line {number} is empty, so it translates nothing")
    return tuple(line.strip() for line in lines)


def read_aligned(paths: Mapping[str, Path], note: Note | None = None) -> dict[str, tuple[str, ...]]:
    """Reads files that translate each other line by line.

    Args:
        paths: file by language code.
        note: as of `read_text`.

    Raises:
        DamagedDataError: a file is not text, has an empty line, or breaks off before another one does.
    """
    lines = {language: read_lines(path, note) for language, path in paths.items()}
    longest = max(lines, key=lambda language: len(lines[language]))
    for language, sentences in lines.items():
        if len(sentences) < len(lines[longest]):
            raise DamagedDataError(
                paths[language],
                f"ends with line {len(sentences):,}, but {paths[longest].name} has {len(lines[longest]):,} lines: "
                f"from some line on, they do not translate each other",
            )
    return lines
