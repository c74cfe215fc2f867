"""Keeps what this learner has done, in one file of the user's data directory.

Reading takes no lock, since the file is replaced whole; each change reads, modifies and replaces it under a lock, so
that two shells at once lose nothing. What a newer version of the course adds to the file is carried along.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import platformdirs
from filelock import FileLock, Timeout
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import explained_disk_errors, read_json, write_json

State = Literal["run", "passed"]

DAYS = (0, 1, 3, 7, 16, 35, 90)
"""Leitner system: days until an interview question is due again, after so many right answers in a row."""

LOCK_SECONDS = 30.0


class Entry(BaseModel):
    model_config = ConfigDict(extra="allow")


class LessonProgress(Entry):
    run_at: AwareDatetime | None = None
    """When the lesson last ran to its end with every check true."""
    seconds: float | None = None
    """That run's duration."""
    checks: int | None = None
    """Checks of that run."""
    passed_at: AwareDatetime | None = None
    """When the learner's own code first passed the lesson's judge."""

    @property
    def state(self) -> State:
        return "passed" if self.passed_at else "run"


class QuizAnswer(Entry):
    """Holds the last answer to one question of a quiz."""

    answer: str | float
    right: bool
    answered_at: AwareDatetime


class InterviewAnswer(Entry):
    """Tracks how well one interview question is known."""

    answered_at: AwareDatetime
    due: AwareDatetime
    streak: int = Field(ge=0)
    """Right answers in a row."""
    right: int = Field(ge=0)
    wrong: int = Field(ge=0)


class Progress(Entry):
    """Holds the content of the progress file."""

    lessons: dict[str, LessonProgress] = {}
    """Lesson name (`05-cnn/07-resnet`) to what was done with it."""
    quiz: dict[str, dict[str, QuizAnswer]] = {}
    """Lesson name to question to answer."""
    interview: dict[str, InterviewAnswer] = {}
    """Question to how well it is known."""
    reading: dict[str, AwareDatetime] = {}
    """Book, course or paper to when it was ticked off."""


def progress_file() -> Path:
    """Returns the path of `progress.json`, in `DL_PROGRESS_DIR` or else in the user's data directory."""
    chosen = os.environ.get("DL_PROGRESS_DIR")
    folder = Path(chosen).expanduser() if chosen else platformdirs.user_data_path("dlcommon")
    return folder / "progress.json"


def load() -> Progress:
    """Reads the progress file; without one, returns empty progress.

    Raises:
        UserError: the file is damaged; it is left as it is.
    """
    path = progress_file()
    if not path.is_file():
        return Progress()
    content = read_json(path)
    try:
        return Progress.model_validate(_upgraded(content))
    except (ValidationError, TypeError, AttributeError, KeyError) as error:
        where = ""
        if isinstance(error, ValidationError):
            where = " at " + " → ".join(str(part) for part in error.errors()[0]["loc"])
        raise UserError(f"{path} is damaged{where}; remove it or restore it from a copy") from error


def read_progress() -> dict[str, LessonProgress]:
    """Reads which lessons were run or passed, by lesson name (`05-cnn/07-resnet`).

    Raises:
        UserError: the file is damaged; it is left as it is.
    """
    return load().lessons


def record_run(lesson: str, seconds: float, checks: int) -> None:
    """Records that a lesson ran to its end with every check true. A passed lesson stays passed.

    Args:
        lesson: its name, `05-cnn/07-resnet`.
        seconds: the run's duration.
        checks: how many checks held.

    Raises:
        UserError: the file is damaged or cannot be written.
    """
    with _changing() as progress:
        entry = progress.lessons.setdefault(lesson, LessonProgress())
        entry.run_at, entry.seconds, entry.checks = _now(), round(seconds, 2), checks


def record_pass(lesson: str) -> None:
    """Records that the learner's own code passed the lesson's judge. The time of the first pass is kept.

    Raises:
        UserError: the file is damaged or cannot be written.
    """
    with _changing() as progress:
        entry = progress.lessons.setdefault(lesson, LessonProgress())
        entry.passed_at = entry.passed_at or _now()


def record_quiz(lesson: str, question: str, answer: str | float, right: bool) -> None:
    """Records an answer to a quiz question, in place of an earlier one.

    Raises:
        UserError: the file is damaged or cannot be written.
    """
    with _changing() as progress:
        given = QuizAnswer(answer=answer, right=right, answered_at=_now())
        progress.quiz.setdefault(lesson, {})[question] = given


def record_interview(question: str, right: bool) -> datetime:
    """Records an answer to an interview question and returns when it is due again.

    Each right answer in a row moves the date further away; after a wrong one the question is due at once.

    Args:
        question: a name that stays the same when the question's wording is improved.
        right: whether the learner knew the answer.

    Raises:
        UserError: the file is damaged or cannot be written.
    """
    with _changing() as progress:
        now, before = _now(), progress.interview.get(question)
        streak = (before.streak if before else 0) + 1 if right else 0
        progress.interview[question] = InterviewAnswer(
            answered_at=now,
            due=now + timedelta(days=DAYS[min(streak, len(DAYS) - 1)]),
            streak=streak,
            right=(before.right if before else 0) + right,
            wrong=(before.wrong if before else 0) + (not right),
        )
    return progress.interview[question].due


def record_reading(read: tuple[str, ...], unread: tuple[str, ...] = ()) -> None:
    """Ticks off books, courses and papers, and takes ticks back.

    Raises:
        UserError: the file is damaged or cannot be written.
    """
    with _changing() as progress:
        for name in read:
            progress.reading.setdefault(name, _now())
        for name in unread:
            progress.reading.pop(name, None)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _upgraded(content: Any) -> Any:
    """Converts entries of the first version, `{lesson: {passed_at, seconds, checks}}` after a run, to state 'run'.

    An older checkout may still add such entries to a newer file; those are converted as well.
    """
    lessons = dict(content.get("lessons", {}))
    for name in [name for name in content if "/" in name]:
        old = content.pop(name)
        entry = lessons.setdefault(name, {})
        if str(entry.get("run_at") or "") <= old["passed_at"]:
            entry.update({"run_at" if key == "passed_at" else key: value for key, value in old.items()})
    return {**content, "lessons": lessons}


@contextmanager
def _changing() -> Iterator[Progress]:
    """Yields the progress and then writes it back, under a lock that keeps other processes out."""
    path = progress_file()
    with explained_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(path.with_suffix(".lock"), timeout=LOCK_SECONDS)
            with lock:
                progress = load()
                yield progress
                write_json(path, progress.model_dump(mode="json", exclude_none=True))
        except Timeout as error:
            raise UserError(f"another process has held {lock.lock_file} for {LOCK_SECONDS:.0f} seconds") from error
