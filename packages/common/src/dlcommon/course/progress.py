"""What this learner has passed, kept in the user's data directory."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

from dlcommon.course.catalogue import Lesson
from dlcommon.course.runner import Outcome
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import read_json, write_json


class Passed(TypedDict):
    """One lesson whose checks all held."""

    passed_at: str
    seconds: float
    checks: int


def progress_file() -> Path:
    """`progress.json` in `DL_PROGRESS_DIR`, else in the user's data directory."""
    import platformdirs

    chosen = os.environ.get("DL_PROGRESS_DIR")
    folder = Path(chosen).expanduser() if chosen else platformdirs.user_data_path("dlcommon")
    return folder / "progress.json"


def read_progress() -> dict[str, Passed]:
    """Lesson name to when it was passed last.

    Raises:
        UserError: the file is damaged; it is left as it is.
    """
    path = progress_file()
    if not path.is_file():
        return {}
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(value, dict) for value in content.values()):
        raise UserError(f"{path} is damaged; remove it or restore it from a copy")
    return content


def record_passed(lesson: Lesson, outcome: Outcome) -> None:
    """Keeps that the lesson was passed; two at once lose nothing.

    Raises:
        UserError: the file is damaged or cannot be written.
    """
    from filelock import FileLock

    path = progress_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        progress = read_progress()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        progress[lesson.name] = {"passed_at": now, "seconds": round(outcome.seconds, 2), "checks": outcome.checks}
        write_json(path, progress)
