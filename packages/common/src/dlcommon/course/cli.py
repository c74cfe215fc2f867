"""The `lesson` command."""

from typing import Any

import tyro
from rich.console import Console

from dlcommon.course import concepts_page, interview
from dlcommon.course import options as o
from dlcommon.course.catalogue import Lesson, all_lessons, find_lesson
from dlcommon.course.cells import readable_cells
from dlcommon.course.concepts import all_concepts
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.files import write_bytes
from dlcommon.runtime.output import Output


def main(argv: list[str]) -> int:
    """Runs `lesson …` and returns the exit code.

    Raises:
        UsageError: there is no lesson of that name, or a value is impossible.
        UserError: the command failed; the message says why.
    """
    description = "The course: 108 lessons in twelve phases. `lesson next` says what to do."
    options: Any
    options, further = tyro.cli(o.Options, prog="lesson", args=argv, description=description, return_unknown_args=True)
    if further and not isinstance(options, o.RunOptions):
        raise UsageError(f"unknown words: {' '.join(further)}; see lesson --help")
    return _dispatch(options, tuple(further), Output(options.json))


def _dispatch(options: Any, further: tuple[str, ...], output: Output) -> int:
    from dlcommon.course import concepts, notebook, practice, running

    match options:
        case o.ListOptions():
            return running.list_lessons(output)
        case o.NextOptions():
            return running.say_next(output)
        case o.ReadOptions():
            return _read(find_lesson(options.lesson), options.language, output)
        case o.OpenOptions():
            return notebook.open_lesson(find_lesson(options.lesson), options.using, options.language, output)
        case o.RunOptions():
            return running.run(find_lesson(options.lesson), further, options.language, output)
        case o.QuizOptions():
            return running.run(find_lesson(options.lesson), (), options.language, output, quiz=True)
        case o.ExerciseOptions():
            return practice.write_exercise(find_lesson(options.lesson), options.again, output)
        case o.CheckOptions():
            if not options.seconds > 0:
                raise UsageError(f"--seconds {options.seconds:g}: must be above 0")
            return practice.check_exercise(find_lesson(options.lesson), options.file, options.seconds, output)
        case o.HintOptions():
            return practice.show_hint(find_lesson(options.lesson), options.number, options.language, output)
        case o.SolutionOptions():
            return practice.show_solution(find_lesson(options.lesson), output)
        case o.InterviewOptions():
            if options.questions < 1:
                raise UsageError(f"--questions {options.questions}: must be at least 1")
            questions = interview.interview_questions(chosen_lessons((options.phase,) if options.phase else ()))
            return interview.interview(questions, options.questions, options.all, options.language, output)
        case o.ConceptsOptions():
            return concepts_page.show_concepts(options.term, concepts.all_concepts(), options.language, output)
        case o.ProgressOptions():
            from dlcommon.course.progress_report import show_progress

            return show_progress(options.language, options.read, options.unread, output)
        case o.NotebookOptions():
            lesson = find_lesson(options.lesson)
            path = options.output or notebook.default_path(lesson)
            notebook.write_notebook(lesson, path, options.language, options.replace)
            output.say(f"wrote {path}; open it with `uv run --with jupyterlab jupyter lab {path}`")
            output.result({"lesson": lesson.key, "path": str(path)})
            return 0
        case o.VerifyOptions():
            return running.verify(chosen_lessons(options.lessons), options.record, output)
        case _:
            return _render(options.check, output)


def chosen_lessons(keys: tuple[str, ...]) -> list[Lesson]:
    """Finds the lessons of the named phases (`05`) and lessons (`05/07`), or all lessons if none is named.

    Raises:
        UsageError: there is no such lesson or phase.
    """
    chosen: list[Lesson] = []
    for key in keys:
        phase = [lesson for lesson in all_lessons() if key.isdecimal() and lesson.phase.number == int(key)]
        chosen += phase or [find_lesson(key)]
    return list(dict.fromkeys(chosen)) or all_lessons()


def _read(lesson: Lesson, language: Any, output: Output) -> int:
    from dlcommon.course.viewer import show_lesson

    if output.as_json:
        cells = readable_cells(lesson.cells(), language)
        output.result(
            {"lesson": lesson.key, "path": str(lesson.path), "cells": [{"kind": c.kind, "text": c.text} for c in cells]}
        )
        return 0
    show_lesson(lesson, language, Console())
    return 0


def _render(check: bool, output: Output) -> int:
    questions, concepts = interview.interview_questions(all_lessons()), all_concepts()
    documents = {
        interview.interview_document(): interview.render(questions),
        concepts_page.concepts_document(): concepts_page.render(concepts),
    }
    stale = [path for path, text in documents.items() if not path.is_file() or path.read_text("utf-8") != text]
    if check and stale:
        raise UserError(f"{', '.join(map(str, stale))}: out of date; `uv run lesson render` writes what is rendered")
    for path in stale:
        write_bytes(path, documents[path].encode())
    output.say(f"{len(questions)} questions, {len(concepts)} concepts in {', '.join(map(str, documents))}")
    output.result({"questions": len(questions), "concepts": len(concepts), "written": [str(path) for path in stale]})
    return 0
