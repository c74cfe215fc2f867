"""A lesson's file as cells, sections and two languages.

A lesson is a script in jupytext's percent format. A Markdown cell that is marked `lang="en"` or `lang="zh"` is for
readers of that language; one without a mark is for all: the headings, written `English · 中文`, and the formulas.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh", "both"]

_MARK = re.compile(r'^# %%(?P<title>[^\[\n]*?)(?P<markdown> \[markdown\])?(?: lang="(?P<language>en|zh)")?$')
_HEADING = re.compile(r"^(#{1,6}) (.+?) · (.+)$", re.MULTILINE)
CHINESE = "\u3000-\u303f\u3400-\u9fff\uff00-\uffef"
"""Ideographs and full-width punctuation, for use within a regular expression's brackets."""


@dataclass(frozen=True)
class Cell:
    kind: Literal["markdown", "code"]
    text: str
    """Code, or Markdown without the comment marks."""
    line: int
    """Number of the text's first line in the file."""
    language: Literal["en", "zh"] | None = None
    """None: for every reader."""

    def heading(self) -> re.Match[str] | None:
        """Finds the first heading of a Markdown cell. The groups are its marks, its English and its Chinese."""
        return _HEADING.search(self.text) if self.kind == "markdown" else None


def parse_cells(text: str) -> list[Cell]:
    """Splits a lesson's source at its `# %%` marks and drops what precedes the first.

    Raises:
        ValueError: a mark is malformed.
    """
    cells: list[Cell] = []
    marks: list[tuple[int, re.Match[str]]] = []
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if line.startswith("# %%"):
            mark = _MARK.match(line.rstrip())
            if mark is None:
                raise ValueError(f'line {number + 1}: a cell begins `# %%`, `# %% [markdown]` or … lang="en" or "zh"')
            marks.append((number, mark))
    ends = [number for number, _ in marks[1:]] + [len(lines)]
    for (number, mark), end in zip(marks, ends, strict=True):
        body = lines[number + 1 : end]
        if mark["markdown"]:
            body = [line.removeprefix("#").removeprefix(" ") for line in body if line.startswith("#")]
        source = "\n".join(body).rstrip()
        skipped = len(source) - len(source.lstrip("\n"))
        language = mark["language"]
        kind: Literal["markdown", "code"] = "markdown" if mark["markdown"] else "code"
        cells.append(Cell(kind, source[skipped:], number + 2 + skipped, language))  # type: ignore[arg-type]
    return cells


def readable_cells(cells: list[Cell], language: Language) -> Iterator[Cell]:
    """Yields the code cells and the Markdown of one language or of both, as a reader of that language sees it."""
    for cell in cells:
        if cell.kind == "code":
            yield cell
        elif language == "both" or cell.language in (None, language):
            yield Cell(cell.kind, readable_markdown(cell.text, language), cell.line, cell.language)


def readable_markdown(markdown: str, language: Language) -> str:
    """Reduces headings to the chosen language and joins the lines of Chinese paragraphs.

    Markdown shows a line break within a paragraph as a space, which is wrong between two Chinese characters.
    """
    if language != "both":
        markdown = _HEADING.sub(r"\1 \2" if language == "en" else r"\1 \3", markdown)
    return re.sub(rf"(?<=[{CHINESE}])\n(?=[{CHINESE}])", "", markdown)


@dataclass(frozen=True)
class Section:
    """Holds a heading and the cells that follow it, up to the next heading of its level or above."""

    english: str
    chinese: str
    level: int
    cells: tuple[Cell, ...]
    """Those below the heading, its own cell first."""

    def code(self) -> str:
        return "\n".join(cell.text for cell in self.cells if cell.kind == "code")

    def prose(self, language: Language) -> str:
        """Joins the Markdown cells of one language, without headings and cells for all readers."""
        return "\n\n".join(cell.text for cell in self.cells if cell.language == language)


def sections(cells: list[Cell] | tuple[Cell, ...], level: int = 2) -> list[Section]:
    """Finds the sections whose headings have this level. A heading always begins a cell."""
    found: list[Section] = []
    begins: list[tuple[int, re.Match[str]]] = []
    for number, cell in enumerate(cells):
        heading = cell.heading()
        if heading is not None and len(heading[1]) <= level:
            begins.append((number, heading))
    ends = [number for number, _ in begins[1:]] + [len(cells)]
    for (number, heading), end in zip(begins, ends, strict=True):
        if len(heading[1]) == level:
            found.append(Section(heading[2].strip(), heading[3].strip(), level, tuple(cells[number:end])))
    return found
