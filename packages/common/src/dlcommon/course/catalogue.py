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
        """From the file's first heading, `# # English · 中文`.

        Raises:
            UserError: the file has none.
        """
        heading = re.search(r"^# # (.+?) · (.+)$", self.path.read_text(encoding="utf-8"), re.MULTILINE)
        if heading is None:
            raise UserError(f"{self.path}: the first heading must read `# # English title · 中文标题`")
        return LocalizedText(heading[1].strip(), heading[2].strip())

    def cells(self) -> list[Cell]:
        """Parses its file.

        Raises:
            UserError: the file has a mark that no lesson uses.
        """
        try:
            return parse_cells(self.path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{self.path}: {error}") from error


def lessons_folder() -> Path:
    """`packages/common/lessons` of the workspace that dlcommon is installed from.

    Raises:
        UserError: dlcommon is installed without its lessons.
    """
    folder = Path(__file__).parents[3] / "lessons"
    if not folder.is_dir():
        raise UserError("dlcommon is installed without its lessons; clone the repository and use `uv run lesson`")
    return folder


def all_lessons() -> list[Lesson]:
    """Every lesson file that the plan names and that exists."""
    root = lessons_folder()
    wanted = [(phase, root / phase.folder / f"{name}.py") for phase in PHASES for name in phase.lessons]
    return [Lesson(phase, path) for phase, path in wanted if path.is_file()]


def find_lesson(key: str) -> Lesson:
    """The lesson called `05/07`, `5/7` or `05-cnn/07-resnet`.

    Raises:
        UsageError: there is none.
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
    """CPU seconds that each lesson takes, by name, as last measured with `lesson verify --record`."""
    path = lessons_folder() / "seconds.json"
    return read_json(path) if path.is_file() else {}


def record_seconds(measured: dict[str, float]) -> None:
    """Adds measurements to the file of them, in the plan's order."""
    known = {**measured_seconds(), **measured}
    names = [lesson.name for lesson in all_lessons() if lesson.name in known]
    write_json(lessons_folder() / "seconds.json", {name: round(known[name], 1) for name in names})
