"""Running a lesson from start to end, headless, and counting the claims that held."""

import os
import runpy
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from dlcommon.course import lesson as frame
from dlcommon.course.catalogue import Lesson


@dataclass(frozen=True)
class Outcome:
    seconds: float
    checks: int
    """Claims that held."""
    problem: str | None
    """Why it did not pass, in a line; None if it did."""

    @property
    def passed(self) -> bool:
        return self.problem is None


def run_lesson(lesson: Lesson, figures: Path | None = None, arguments: tuple[str, ...] = ()) -> Outcome:
    """Runs the lesson in this process with seeded generators; its figures go into the folder, if one is given.

    A user's own errors (UserError) are raised; anything else that fails is the outcome's problem.
    """
    from dlcommon.runtime.errors import UserError

    started = time.perf_counter()
    frame.checked.clear()
    problem: str | None = None
    with _environment(lesson, figures, arguments):
        try:
            runpy.run_path(str(lesson.path), run_name="__main__")
        except UserError:
            raise
        except frame.CheckFailedError as error:
            problem = f"does not hold: {error}"
        except Exception as error:
            traceback.print_exc()
            problem = f"{type(error).__name__}: {error}"
    if problem is None and not frame.checked:
        problem = "ended without a single check"
    return Outcome(time.perf_counter() - started, len(frame.checked), problem)


@contextmanager
def _environment(lesson: Lesson, figures: Path | None, arguments: tuple[str, ...]) -> Iterator[None]:
    """Headless figures, fixed seeds, the script's own argv; what a lesson changes globally is put back."""
    import matplotlib
    import matplotlib.pyplot as plt
    import numpy as np
    import torch

    from dlcommon.runtime.random_state import random_state, restore_random_state, seed_everything

    state, dtype = random_state(), torch.get_default_dtype()
    variables = {"DL_FIGURES_DIR": str(figures)} if figures else {}
    matplotlib.use("Agg")
    with (
        mock.patch.dict(os.environ, variables),
        mock.patch("sys.argv", [str(lesson.path), *arguments]),
        matplotlib.rc_context(),
        np.printoptions(),
    ):
        seed_everything(0)
        try:
            yield
        finally:
            plt.close("all")
            restore_random_state(state)
            torch.set_default_dtype(dtype)
