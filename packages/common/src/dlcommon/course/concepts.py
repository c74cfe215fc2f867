"""The knowledge base: the concepts of each lesson, once each, read from `lessons/<phase>/concepts.toml`.

A concept states a sentence in both languages, and where there are any its formula, the code that implements it, the
paper, and a few lines that show that the formula holds. `docs/CONCEPTS.md` is rendered from them.
"""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dlcommon.course import catalogue
from dlcommon.course.catalogue import Lesson
from dlcommon.course.cells import CHINESE
from dlcommon.course.module_source import ModuleSource, module_source
from dlcommon.course.plan import PHASES
from dlcommon.course.reading import READINGS
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.localization import LocalizedText

FILE = "concepts.toml"
PAPERS_FILE = "papers.toml"


class Entry(BaseModel):
    """Validates one entry of a `concepts.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    name: str = Field(pattern=r"^\S.* · .*\S$")
    """`English · 中文`; where the Chinese is the English, as of `Adam`, twice."""
    also: tuple[str, ...] = ()
    """Other names that one would look it up by, in either language."""
    en: str = Field(min_length=20)
    zh: str = Field(pattern=f"[{CHINESE}]")
    formula: str = ""
    """LaTeX, without dollars."""
    code: str = ""
    """What implements it, below `dlcommon`: `rnn.cells:lstm_cell` or `rnn.recurrent:LSTM.reset_parameters`."""
    line: str = ""
    """A part of the one line of that definition that says it."""
    paper: str = ""
    """Its name in `papers.toml`."""
    check: str = ""
    """Code that runs by itself and asserts what the formula says; the document's tests run it."""


@dataclass(frozen=True)
class Citation:
    label: str
    """Authors and year."""
    title: str
    address: str


@dataclass(frozen=True)
class CodePlace:
    path: Path
    number: int
    """Of the quoted line, else of the definition's first."""
    text: str
    """The quoted line, without its indentation; empty if none is quoted."""


@dataclass(frozen=True)
class Concept:
    lesson: Lesson
    name: LocalizedText
    sentence: LocalizedText
    entry: Entry
    citation: Citation | None

    @property
    def anchor(self) -> str:
        """Returns the anchor of its entry in the document, such as `cell-state`."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.en.lower().replace("+", " plus ")).strip("-")

    @property
    def names(self) -> tuple[str, ...]:
        """Lists all names in lower case."""
        return tuple(name.lower() for name in (self.name.en, self.name.zh, *self.entry.also))

    def place(self) -> CodePlace | None:
        """Finds the code that implements it, by the syntax tree; None where dlcommon has none.

        Raises:
            UserError: the definition does not exist, or does not hold the quoted part in one line only.
        """
        if not self.entry.code:
            return None
        module, _, definition = self.entry.code.partition(":")
        try:
            source = _source(f"dlcommon.{module}")
            first, last = source.lines_of(source.find(definition))
        except UserError as error:
            raise UserError(f"{self._where()}: code = {self.entry.code!r}: {error}") from error
        numbered = list(enumerate(source.text.split("\n")[first - 1 : last], start=first))
        if not self.entry.line:
            return CodePlace(source.path, first, "")
        found = [(number, text.strip()) for number, text in numbered if self.entry.line in text]
        if len(found) != 1:
            advice = "quote a part that one line of the definition holds"
            raise UserError(f"{self._where()}: {len(found)} lines hold line = {self.entry.line!r}; {advice}")
        return CodePlace(source.path, *found[0])

    def _where(self) -> str:
        return f"{self.lesson.phase.folder}/{FILE}, {self.name.en}"


@cache
def _source(module: str) -> ModuleSource:
    return module_source(module)


def all_concepts() -> list[Concept]:
    """Reads the concepts of all lessons that exist, in the plan's order.

    Raises:
        UserError: a file is damaged, names a lesson that the plan does not hold, or a paper that `papers.toml` lacks.
    """
    root = catalogue.lessons_folder()
    citations = _citations(root / PAPERS_FILE)
    lessons = {lesson.name: lesson for lesson in catalogue.all_lessons()}
    found: list[Concept] = []
    for phase in PHASES:
        path = root / phase.folder / FILE
        by_lesson: dict[str, list[Concept]] = {lesson: [] for lesson in phase.lessons}
        for key, tables in (_read(path) if path.is_file() else {}).items():
            if key not in by_lesson:
                raise UserError(f"{path}: [[{key}]] is no lesson of this phase; it has {', '.join(phase.lessons)}")
            for table in tables:
                entry = _entry(table, path)
                if entry.paper and entry.paper not in citations:
                    raise UserError(f"{path}, {entry.name}: {entry.paper!r} is missing from {root / PAPERS_FILE}")
                lesson = lessons.get(f"{phase.folder}/{key}")
                if lesson is not None:  # else its entries wait for it
                    en, _, zh = entry.name.partition(" · ")
                    name, sentence = LocalizedText(en, zh), LocalizedText(entry.en, entry.zh)
                    by_lesson[key].append(Concept(lesson, name, sentence, entry, citations.get(entry.paper)))
        found += [concept for concepts in by_lesson.values() for concept in concepts]
    return found


def search(term: str, concepts: Iterable[Concept]) -> list[Concept]:
    """Finds concepts by a name in either language, whole or part, else by their sentences."""
    wanted, concepts = term.strip().lower(), list(concepts)
    return (
        [concept for concept in concepts if wanted in concept.names]
        or [concept for concept in concepts if any(wanted in name for name in concept.names)]
        or [concept for concept in concepts if wanted in str(concept.sentence).lower()]
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: {error}") from error


def _entry(table: dict[str, Any], path: Path) -> Entry:
    try:
        return Entry.model_validate(table)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise UserError(f"{path}, {table.get('name', 'an entry without a name')}: {problems}") from error


def _citations(path: Path) -> dict[str, Citation]:
    """Reads `papers.toml`; the address of a paper that is on the reading list stands there."""
    tables = _read(path) if path.is_file() else {}
    try:
        return {
            key: Citation(table["cite"], table["title"], table.get("url") or READINGS[key].address)
            for key, table in tables.items()
        }
    except KeyError as error:
        raise UserError(f"{path}: a paper has no {error}; each has cite, title and url") from error
