"""The options of `lesson` and its commands."""

import locale
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from dlcommon.course.cells import Language
from dlcommon.course.notebook import Opener

Key = tyro.conf.Positional[str]


def system_language() -> Literal["en", "zh"]:
    return "zh" if (locale.getlocale()[0] or "").lower().startswith(("zh", "chinese")) else "en"


@dataclass(frozen=True, kw_only=True)
class Common:
    json: bool = False
    """Print one JSON object on stdout, all else on stderr."""


@dataclass(frozen=True, kw_only=True)
class Reader(Common):
    language: Language = field(default_factory=system_language)
    """en, zh or both; by default the system's."""


@dataclass(frozen=True)
class ListOptions(Common):
    """Show all lessons: path, state, and how long each takes."""


@dataclass(frozen=True)
class ReadOptions(Reader):
    """Read a lesson in the terminal."""

    lesson: Key
    """Such as 05/07."""


@dataclass(frozen=True)
class OpenOptions(Reader):
    """Open a lesson in your editor (EDITOR) or as a notebook."""

    lesson: Key
    """Such as 05/07."""
    using: Opener = "auto"
    """By default the editor where EDITOR is set, else a notebook."""


@dataclass(frozen=True)
class RunOptions(Reader):
    """Run a lesson from start to end. Further flags go to the lesson."""

    lesson: Key
    """Such as 05/07."""


@dataclass(frozen=True)
class QuizOptions(Reader):
    """Answer a lesson's questions before it computes what they are about."""

    lesson: Key
    """Such as 05/07."""


@dataclass(frozen=True)
class ExerciseOptions(Common):
    """Write the file in which you implement the lesson's core yourself."""

    lesson: Key
    """Such as 05/07."""
    again: bool = False
    """Begin anew; your earlier file is kept under another name."""


@dataclass(frozen=True)
class CheckOptions(Common):
    """Judge your exercise; the lesson is passed when it holds."""

    lesson: Key
    """Such as 05/07."""
    file: Path | None = None
    """By default the file that `lesson exercise` wrote."""
    seconds: float = 60.0
    """How long your code may take."""


@dataclass(frozen=True)
class HintOptions(Reader):
    """Show a hint for the exercise."""

    lesson: Key
    """Such as 05/07."""
    number: tyro.conf.Positional[int] = 1
    """Which hint: 1, 2, …"""


@dataclass(frozen=True)
class SolutionOptions(Common):
    """Show the solution of the exercise: the module's own source."""

    lesson: Key
    """Such as 05/07."""


@dataclass(frozen=True)
class InterviewOptions(Reader):
    """Answer interview questions; those not known come again."""

    phase: tyro.conf.Positional[str] = ""
    """A phase (05) or a lesson (05/07); by default all."""
    questions: int = 10
    """How many at most."""
    all: bool = False
    """Also those that are not due yet."""


@dataclass(frozen=True)
class ConceptsOptions(Reader):
    """Look a term up among the course's concepts, in English or Chinese."""

    term: tyro.conf.Positional[str] = ""
    """A name or a part of one; by default the names of all are listed."""


@dataclass(frozen=True)
class NextOptions(Common):
    """Say what to do next: read, run, write the exercise."""


@dataclass(frozen=True)
class ProgressOptions(Common):
    """Show the plan's table, milestones and reading list with what you have done."""

    language: Literal["en", "zh"] = field(default_factory=system_language)
    """en or zh; by default the system's."""
    read: tuple[str, ...] = ()
    """Books, courses and papers to tick off, by the names that the reading list shows."""
    unread: tuple[str, ...] = ()
    """Take ticks back."""


@dataclass(frozen=True)
class NotebookOptions(Common):
    """Write a lesson as a Jupyter notebook, which also works outside this checkout."""

    lesson: Key
    """Such as 05/07."""
    output: Path | None = None
    """File to write; by default the lesson's name with .ipynb, in the current directory."""
    language: Language = "both"
    """Whose text it holds: en, zh or both."""
    replace: bool = False
    """Write over a file that is there."""


@dataclass(frozen=True)
class VerifyOptions(Common):
    """For authors: run lessons, hold them against the template; your progress stays as it is."""

    lessons: tyro.conf.Positional[tuple[str, ...]] = ()
    """Lessons (05/07) or phases (05); by default all."""
    record: bool = False
    """Keep how long each takes in lessons/seconds.json."""


@dataclass(frozen=True)
class RenderOptions(Common):
    """For authors: render docs/INTERVIEW.md and docs/CONCEPTS.md from the lessons."""

    check: bool = False
    """Write nothing; fail where a document is out of date."""


Options = (
    Annotated[ListOptions, tyro.conf.subcommand("list")]
    | Annotated[NextOptions, tyro.conf.subcommand("next")]
    | Annotated[ReadOptions, tyro.conf.subcommand("read")]
    | Annotated[OpenOptions, tyro.conf.subcommand("open")]
    | Annotated[RunOptions, tyro.conf.subcommand("run")]
    | Annotated[QuizOptions, tyro.conf.subcommand("quiz")]
    | Annotated[ExerciseOptions, tyro.conf.subcommand("exercise")]
    | Annotated[CheckOptions, tyro.conf.subcommand("check")]
    | Annotated[HintOptions, tyro.conf.subcommand("hint")]
    | Annotated[SolutionOptions, tyro.conf.subcommand("solution")]
    | Annotated[InterviewOptions, tyro.conf.subcommand("interview")]
    | Annotated[ConceptsOptions, tyro.conf.subcommand("concepts")]
    | Annotated[ProgressOptions, tyro.conf.subcommand("progress")]
    | Annotated[NotebookOptions, tyro.conf.subcommand("notebook")]
    | Annotated[VerifyOptions, tyro.conf.subcommand("verify")]
    | Annotated[RenderOptions, tyro.conf.subcommand("render")]
)
