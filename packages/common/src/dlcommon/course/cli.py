"""The `lesson` command: list, run, next, progress, notebook, check."""

import locale
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from dlcommon.course.catalogue import Lesson, all_lessons, find_lesson
from dlcommon.course.plan import PHASES
from dlcommon.course.progress import read_progress, record_run
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.output import Output

Language = Literal["en", "zh"]


def _language() -> Language:
    return "zh" if (locale.getlocale()[0] or "").lower().startswith(("zh", "chinese")) else "en"


@dataclass(frozen=True)
class ListOptions:
    """Show all lessons, and which are passed."""

    json: bool = False
    """Print one JSON object on stdout, all else on stderr."""


@dataclass(frozen=True)
class RunOptions:
    """Run a lesson; it counts as done when its checks hold. Further flags go to the lesson."""

    lesson: tyro.conf.Positional[str]
    """Such as 05/07."""
    json: bool = False
    """Print one JSON object on stdout, all else on stderr."""


@dataclass(frozen=True)
class NextOptions:
    """Run the first lesson that is not passed yet."""

    json: bool = False
    """Print one JSON object on stdout, all else on stderr."""


@dataclass(frozen=True)
class ProgressOptions:
    """Show the plan's table, milestones and reading list with what you have done."""

    language: Language = field(default_factory=_language)
    """en or zh; by default the system's."""
    read: tuple[str, ...] = ()
    """Books, courses and papers to tick off, by the names that the reading list shows."""
    unread: tuple[str, ...] = ()
    """Take ticks back."""
    json: bool = False
    """Print one JSON object on stdout, all else on stderr."""


@dataclass(frozen=True)
class NotebookOptions:
    """Write a lesson as a Jupyter notebook."""

    lesson: tyro.conf.Positional[str]
    """Such as 05/07."""
    output: Path | None = None
    """File to write; by default the lesson's name with .ipynb, in the current directory."""
    json: bool = False
    """Print one JSON object on stdout, all else on stderr."""


@dataclass(frozen=True)
class CheckOptions:
    """Run lessons one after the other and say which pass; your progress stays as it is."""

    lessons: tyro.conf.Positional[tuple[str, ...]] = ()
    """Lessons (05/07) or phases (05); by default all."""
    json: bool = False
    """Print one JSON object on stdout, all else on stderr."""


Options = (
    Annotated[ListOptions, tyro.conf.subcommand("list")]
    | Annotated[RunOptions, tyro.conf.subcommand("run")]
    | Annotated[NextOptions, tyro.conf.subcommand("next")]
    | Annotated[ProgressOptions, tyro.conf.subcommand("progress")]
    | Annotated[NotebookOptions, tyro.conf.subcommand("notebook")]
    | Annotated[CheckOptions, tyro.conf.subcommand("check")]
)


def main(argv: list[str]) -> int:
    """Runs `lesson …`; returns the exit code.

    Raises:
        UsageError: there is no lesson of that name.
        UserError: the command cannot be done; says why.
    """
    description = "The course: 108 lessons in twelve phases."
    options: Any
    options, further = tyro.cli(Options, prog="lesson", args=argv, description=description, return_unknown_args=True)
    if further and not isinstance(options, RunOptions):
        raise UsageError(f"unknown words: {' '.join(further)}; see lesson --help")
    output = Output(options.json)
    match options:
        case ListOptions():
            return _list(output)
        case RunOptions(key):
            return _run(find_lesson(key), tuple(further), output)
        case NextOptions():
            return _next(output)
        case ProgressOptions(language, read, unread):
            return _progress(language, read, unread, output)
        case NotebookOptions(key, path):
            return _notebook(find_lesson(key), path, output)
        case _:
            return _check(options.lessons, output)


def _list(output: Output) -> int:
    passed, rows = read_progress(), []
    for phase in PHASES:
        lessons = [lesson for lesson in all_lessons() if lesson.phase is phase]
        output.say(f"{phase.folder}  {phase.title}  ({len(lessons)} of {phase.count})")
        for lesson in lessons:
            done = lesson.name in passed
            output.say(f"  {'✓' if done else ' '} {lesson.key}  {lesson.path.stem[3:]:24} {lesson.title}")
            rows.append({"lesson": lesson.key, "name": lesson.name, "title": lesson.title.en, "passed": done})
    output.result({"lessons": rows, "planned": sum(phase.count for phase in PHASES)})
    return 0


def _run(lesson: Lesson, arguments: tuple[str, ...], output: Output) -> int:
    from contextlib import redirect_stdout

    from dlcommon.course.runner import run_lesson

    output.say(f"lesson {lesson.key} · {lesson.title}")
    with redirect_stdout(sys.stderr if output.as_json else sys.stdout):
        outcome = run_lesson(lesson, arguments=arguments)
    if outcome.passed:
        record_run(lesson.name, outcome.seconds, outcome.checks)
        output.say(f"passed: {outcome.checks} checks in {outcome.seconds:.1f} s; next: uv run lesson next")
    else:
        print(f"not passed: {outcome.problem}", file=sys.stderr)
    output.result(
        {
            "lesson": lesson.key,
            "passed": outcome.passed,
            "checks": outcome.checks,
            "seconds": round(outcome.seconds, 2),
            "problem": outcome.problem,
        }
    )
    return 0 if outcome.passed else 1


def _next(output: Output) -> int:
    passed = read_progress()
    for lesson in all_lessons():
        if lesson.name not in passed:
            return _run(lesson, (), output)
    output.say("all lessons are passed · 全部课程已完成")
    output.result({"lesson": None, "passed": True})
    return 0


def _progress(language: Language, read: tuple[str, ...], unread: tuple[str, ...], output: Output) -> int:
    from dlcommon.course.progress_report import show_progress

    return show_progress(language, read, unread, output)


def _notebook(lesson: Lesson, path: Path | None, output: Output) -> int:
    try:
        import jupytext
    except ImportError:
        raise UserError("notebooks are written with jupytext; add it with `uv add 'dlcommon[course]'`") from None
    import nbformat

    from dlcommon.runtime.files import write_bytes

    path = path or Path(f"{lesson.path.stem}.ipynb")
    if path.suffix != ".ipynb":
        raise UsageError(f"--output {path}: a notebook's name ends in .ipynb")
    notebook = jupytext.read(lesson.path)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    write_bytes(path, nbformat.writes(notebook).encode())
    output.say(f"wrote {path}; open it with `uv run --with jupyterlab jupyter lab {path}`")
    output.result({"lesson": lesson.key, "path": str(path)})
    return 0


def _check(keys: tuple[str, ...], output: Output) -> int:
    from contextlib import redirect_stdout
    from io import StringIO

    from dlcommon.course.runner import run_lesson

    chosen: list[Lesson] = []
    for key in keys:
        phase = [lesson for lesson in all_lessons() if key.isdigit() and lesson.phase.number == int(key)]
        chosen += phase or [find_lesson(key)]
    failed, rows = 0, []
    for lesson in chosen or all_lessons():
        with redirect_stdout(StringIO()):
            outcome = run_lesson(lesson)
        failed += not outcome.passed
        said = f"{outcome.checks} checks" if outcome.passed else outcome.problem
        output.say(f"{'✓' if outcome.passed else '✗'} {lesson.name:44} {outcome.seconds:6.1f} s  {said}")
        rows.append({"lesson": lesson.key, "passed": outcome.passed, "problem": outcome.problem})
    output.say(f"{len(rows) - failed} of {len(rows)} pass")
    output.result({"lessons": rows, "failed": failed})
    return 1 if failed else 0
