"""Runs lessons and keeps what each of their cells shows, until the lesson or the code behind it changes."""

import hashlib
import io
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import dlcommon
from dlcommon.course.catalogue import Lesson
from dlcommon.course.cells import Cell
from dlcommon.course.recorder import recording
from dlcommon.course.runner import run_lesson
from dlcommon.runtime.data.locate import data_dir
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import read_json, whole_folder, write_json
from dlcommon.runtime.output import Output

RECORD = "shown.json"
_NOT_BEHIND_LESSONS = ("site", "testing")
"""Packages of dlcommon that no lesson uses."""


@dataclass(frozen=True)
class Shown:
    """One thing that a cell shows."""

    kind: str
    """text, check, table, figure, source, question or answer."""
    content: dict[str, Any]


@dataclass(frozen=True)
class LessonRun:
    folder: Path
    """Holds its figures."""
    cells: dict[int, list[Shown]]
    """What each code cell shows, by the number of its first line."""


def fingerprint(lesson: Lesson) -> str:
    """Hashes what a lesson's output depends on: its file, dlcommon, the libraries, and whether data is at hand."""
    digest = hashlib.sha256(lesson.path.read_bytes())
    digest.update(_behind_lessons().encode())
    digest.update(str(data_dir()).encode())
    return digest.hexdigest()


@cache
def _behind_lessons() -> str:
    """Hashes the code that all lessons may use."""
    digest, package = hashlib.sha256(), Path(dlcommon.__file__).parent
    for path in sorted(package.rglob("*.py")):
        if path.relative_to(package).parts[0] not in _NOT_BEHIND_LESSONS:
            digest.update(path.read_bytes())
    for library in ("torch", "numpy", "matplotlib"):
        digest.update(version(library).encode())
    return digest.hexdigest()


def is_current(lesson: Lesson, folder: Path) -> bool:
    """Says whether what a lesson showed when it last ran is what it would show now."""
    path = folder / lesson.name / RECORD
    return path.is_file() and read_json(path)["fingerprint"] == fingerprint(lesson)


def stored_run(lesson: Lesson, folder: Path) -> LessonRun | None:
    """Reads what a lesson showed when it last ran, or returns None if it never did."""
    path = folder / lesson.name / RECORD
    if not path.is_file():
        return None
    record = read_json(path)
    cells = {int(line): [Shown(**shown) for shown in of_cell] for line, of_cell in record["cells"].items()}
    return LessonRun(path.parent, cells)


def run_lessons(lessons: Iterable[Lesson], folder: Path, output: Output) -> None:
    """Runs the lessons, several at a time where there are several cores, and stores what they show.

    Raises:
        UserError: a lesson fails or one of its checks does not hold.
    """
    waiting = list(lessons)
    workers = min(os.cpu_count() or 1, len(waiting))
    if workers <= 1:
        for lesson in waiting:
            output.say(_run_and_store(lesson, folder))
        return
    # Started afresh, since torch's threads do not survive a fork.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for report in pool.map(_run_and_store, waiting, [folder] * len(waiting)):
            output.say(report)


def _run_and_store(lesson: Lesson, folder: Path) -> str:
    recorder = _Recorder()
    with whole_folder(folder / lesson.name) as target:
        with recording(recorder.take), redirect_stdout(recorder.printed):
            outcome = run_lesson(lesson, figures=target, narrate=recorder.begin)
        recorder.flush()
        if not outcome.passed:
            raise UserError(f"lesson {lesson.key} does not pass: {outcome.problem}")
        write_json(target / RECORD, {"fingerprint": fingerprint(lesson), "cells": recorder.cells})
    return f"ran {lesson.key} {lesson.title}, {outcome.cpu_seconds:.1f} s"


class _Recorder:
    """Collects printed text and recorded things in the order in which a lesson shows them."""

    def __init__(self) -> None:
        self.cells: dict[int, list[dict[str, Any]]] = {}
        self.printed = io.StringIO()
        self._line = 0

    def begin(self, cell: Cell) -> None:
        self.flush()
        self._line = cell.line

    def take(self, kind: str, content: dict[str, Any]) -> None:
        self.flush()
        self.cells.setdefault(self._line, []).append({"kind": kind, "content": content})

    def flush(self) -> None:
        text = self.printed.getvalue()
        self.printed.seek(0)
        self.printed.truncate()
        if text.strip():
            self.cells.setdefault(self._line, []).append({"kind": "text", "content": {"text": text}})
