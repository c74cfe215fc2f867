"""The process that a lesson runs in: fixed seeds, one thread, the claims that held; in a notebook its name and record.

Numbers must not depend on how a lesson is started, nor on how many cores there are; and two lessons side by side, each
with a thread per core, wait for each other's threads far longer than either computes.
"""

import os
import time

import threadpoolctl

from dlcommon.course import questions
from dlcommon.course.cells import Language
from dlcommon.course.progress import record_pass, record_run

checked: list[str] = []
"""Claims of the running lesson that held."""
lesson_name: str | None = None
"""`05-cnn/07-resnet` in a notebook; None where the lesson's file is known."""
_began = 0.0


class CheckFailedError(AssertionError):
    """Reports that a claim of a lesson does not hold."""


def prepare_process() -> None:
    """Seeds Python's, NumPy's and torch's generators with 0 and limits all of the process's thread pools to one."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # for libraries that are loaded later
    import torch

    from dlcommon.runtime.random_state import seed_everything

    torch.set_num_threads(1)
    threadpoolctl.threadpool_limits(1)
    seed_everything(0)


def begin(name: str, language: Language = "both") -> None:
    """Begins a notebook: keeps its lesson's name and language and prepares the process. Its first cell calls this."""
    global lesson_name, _began
    questions.language = language
    lesson_name, _began = name, time.perf_counter()
    checked.clear()
    prepare_process()


def finish() -> None:
    """Records that the notebook ran to its end. Its last cell calls this."""
    if lesson_name is not None and checked:
        seconds = time.perf_counter() - _began
        record_run(lesson_name, seconds, len(checked))
        print(f"  {lesson_name}: {len(checked)} checks hold; recorded")


def record_passed_exercise() -> None:
    """Records in a notebook that the learner's own definitions passed the judge."""
    if lesson_name is not None:
        record_pass(lesson_name)
        print(f"  {lesson_name}: passed; recorded · 已通过")
