"""The lessons that exist, in the plan's order."""

import re
from dataclasses import dataclass
from pathlib import Path

from dlcommon.course.cells import Cell, parse_cells
from dlcommon.course.plan import PHASES, Phase
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.files import read_json, write_json
from dlcommon.runtime.localization import LocalizedText


@dataclass(frozen=True)
class Lesson:
    phase: Phase
    path: Path

    @property
    def key(self) -> str:
        """Returns the key that users type, such as `05/07`."""
        return f"{self.phase.number:02d}/{self.path.stem[:2]}"

    @property
    def name(self) -> str:
        """`05-cnn/07-resnet`."""
        return f"{self.phase.folder}/{self.path.stem}"

    @property
    def title(self) -> LocalizedText:
        """The English and Chinese title, from the file's first heading, `# # English · 中文`.

        Raises:
            UserError: the file has no such heading.
        """
        heading = re.search(r"^# # (.+?) · (.+)$", self.path.read_text(encoding="utf-8"), re.MULTILINE)
        if heading is None:
            raise UserError(f"{self.path}: the first heading must read `# # English title · 中文标题`")
        return LocalizedText(heading[1].strip(), heading[2].strip())

    def cells(self) -> list[Cell]:
        """Parses the lesson's file into cells.

        Raises:
            UserError: the file has a cell mark that lessons do not use.
        """
        try:
            return parse_cells(self.path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{self.path}: {error}") from error


def lessons_folder() -> Path:
    """Finds `packages/common/lessons` in the workspace that dlcommon is installed from.

    Raises:
        UserError: dlcommon is installed without its lessons.
    """
    folder = Path(__file__).parents[3] / "lessons"
    if not folder.is_dir():
        raise UserError("dlcommon is installed without its lessons; clone the repository and use `uv run lesson`")
    return folder


def all_lessons() -> list[Lesson]:
    """Lists the plan's lessons whose files exist, in order."""
    root = lessons_folder()
    wanted = [(phase, root / phase.folder / f"{name}.py") for phase in PHASES for name in phase.lessons]
    return [Lesson(phase, path) for phase, path in wanted if path.is_file()]


def find_lesson(key: str) -> Lesson:
    """Finds a lesson by its key or name: `05/07`, `5/7` or `05-cnn/07-resnet`.

    Raises:
        UsageError: no lesson has this key.
    """
    lessons = all_lessons()
    match = re.fullmatch(r"(\d{1,2})(?:-[\w-]+)?/(\d{1,2})(?:-[\w-]+)?(?:\.py)?", key)
    if match:
        wanted = f"{int(match[1]):02d}/{int(match[2]):02d}"
        for lesson in lessons:
            if lesson.key == wanted:
                return lesson
    raise UsageError(f"there is no lesson {key!r}; `lesson list` shows all, called as {lessons[0].key}")


def measured_seconds() -> dict[str, float]:
    """Reads the CPU seconds that each lesson takes, by name, as last measured with `lesson verify --record`."""
    path = lessons_folder() / "seconds.json"
    return read_json(path) if path.is_file() else {}


def record_seconds(measured: dict[str, float]) -> None:
    """Adds measurements to `seconds.json`, which is kept in the plan's order."""
    known = {**measured_seconds(), **measured}
    names = [lesson.name for lesson in all_lessons() if lesson.name in known]
    write_json(lessons_folder() / "seconds.json", {name: round(known[name], 1) for name in names})
