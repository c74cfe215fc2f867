"""Running a lesson from start to end, cell by cell and headless, and counting the claims that held."""

import io
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from unittest import mock

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch

from dlcommon.course import lesson as frame
from dlcommon.course import questions, session
from dlcommon.course.catalogue import Lesson
from dlcommon.course.cells import Cell, Language
from dlcommon.course.questions import Question
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.random_state import random_state, restore_random_state


@dataclass(frozen=True)
class Outcome:
    seconds: float
    """On the clock, questions' answers included."""
    cpu_seconds: float
    """Of this process."""
    checks: int
    """Claims that held."""
    questions: tuple[Question, ...]
    """Those that the lesson asked and settled."""
    problem: str | None
    """Why it did not pass, in a line; None if it did."""

    @property
    def passed(self) -> bool:
        return self.problem is None


def run_lesson(
    lesson: Lesson,
    figures: Path | None = None,
    arguments: tuple[str, ...] = (),
    narrate: Callable[[Cell], None] | None = None,
    asking: questions.Asking = "never",
    only_questions: bool = False,
    language: Language = "both",
) -> Outcome:
    """Runs the lesson in this process with seeded generators.

    A user's own error (UserError) is raised; any other failure becomes the outcome's problem.

    Args:
        figures: the folder for its figures.
        arguments: the script's command-line arguments.
        narrate: called with each cell when its turn comes.
        asking: whether its questions wait for answers.
        only_questions: hides the output of cells that neither ask nor settle a question.
        language: language of the questions.
    """
    session.checked.clear()
    questions.questions.clear()
    problem: str | None = None
    with (
        _environment(lesson, figures, arguments),
        mock.patch.multiple(questions, asking=asking, language=language),
    ):
        began, began_cpu = time.perf_counter(), time.process_time()
        try:
            _execute(lesson, narrate, only_questions)
        except UserError:
            raise
        except frame.CheckFailedError as error:
            problem = f"does not hold: {error}"
        except SystemExit as error:
            problem = f"the lesson called exit({error.code!r})"
        except Exception as error:
            traceback.print_exc()
            problem = f"{type(error).__name__}: {error}"
        took, took_cpu = time.perf_counter() - began, time.process_time() - began_cpu
    open_questions = [question.name for question in questions.questions.values() if not question.settled]
    if problem is None and not session.checked:
        problem = "ended without a single check"
    if problem is None and open_questions:
        problem = f"never settled the question {open_questions[0]!r}"
    settled = tuple(question for question in questions.questions.values() if question.settled)
    return Outcome(took, took_cpu, len(session.checked), settled, problem)


def _execute(lesson: Lesson, narrate: Callable[[Cell], None] | None, only_questions: bool) -> None:
    """Runs the cells as one script, `__main__`."""
    module = ModuleType("__main__")
    module.__file__ = str(lesson.path)
    before, sys.modules["__main__"] = sys.modules["__main__"], module
    try:
        for cell in lesson.cells():
            if narrate is not None:
                narrate(cell)
            if cell.kind == "markdown":
                continue
            # The empty lines give tracebacks and `inspect` the file's own line numbers.
            code = compile("\n" * (cell.line - 1) + cell.text, str(lesson.path), "exec")
            hidden = only_questions and not ("quiz(" in cell.text or "settle(" in cell.text)
            with redirect_stdout(io.StringIO() if hidden else sys.stdout):
                exec(code, vars(module))
    finally:
        sys.modules["__main__"] = before


@contextmanager
def _environment(lesson: Lesson, figures: Path | None, arguments: tuple[str, ...]) -> Iterator[None]:
    """Sets up headless figures, fixed seeds and the script's argv, and restores the global state after the lesson."""
    state, dtype = random_state(), torch.get_default_dtype()
    variables = {"DL_FIGURES_DIR": str(figures)} if figures else {}
    matplotlib.use("Agg")
    with (
        mock.patch.dict(os.environ, variables),
        mock.patch("sys.argv", [str(lesson.path), *arguments]),
        matplotlib.rc_context(),
        np.printoptions(),
    ):
        session.prepare_process()
        try:
            yield
        finally:
            plt.close("all")
            restore_random_state(state)
            torch.set_default_dtype(dtype)
