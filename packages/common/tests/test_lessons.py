"""Every lesson runs from start to end, its checks hold, and the list is the plan's."""

import re
from pathlib import Path

import pytest
from dlcommon.course.catalogue import Lesson, all_lessons, lessons_folder
from dlcommon.course.cells import Language, parse_cells, readable_cells, sections
from dlcommon.course.formulas import readable_formulas
from dlcommon.course.plan import PHASES
from dlcommon.course.runner import run_lesson
from dlcommon.course.template import follows_template, template_problems

LESSONS = all_lessons()
FOLLOWING = [lesson for lesson in LESSONS if follows_template(lesson.path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("lesson", LESSONS, ids=[lesson.name for lesson in LESSONS])
def test_lesson(lesson: Lesson, tmp_path: Path) -> None:
    outcome = run_lesson(lesson, figures=tmp_path)
    assert outcome.passed, outcome.problem
    assert outcome.checks >= 3
    assert list(tmp_path.glob("*.png")), "a lesson draws at least one figure"


@pytest.mark.parametrize("lesson", LESSONS, ids=[lesson.name for lesson in LESSONS])
def test_opens_in_both_languages(lesson: Lesson) -> None:
    text = lesson.path.read_text(encoding="utf-8")
    cells = parse_cells(text)
    assert text.startswith("# %% [markdown]\n# # ")
    assert lesson.title.en in cells[0].text
    opening = "\n".join(cell.text for cell in cells[: 8 if lesson in FOLLOWING else 1] if cell.kind == "markdown")
    assert len(re.findall(r"[\u4e00-\u9fff]", opening)) >= 60, "the opening explains the idea in Chinese as well"
    assert len(opening.encode("ascii", "ignore")) >= 300, "the opening explains the idea in English"


@pytest.mark.parametrize("lesson", FOLLOWING, ids=[lesson.name for lesson in FOLLOWING])
def test_a_lesson_with_an_exercise_follows_the_template(lesson: Lesson) -> None:
    assert template_problems(lesson.path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("lesson", FOLLOWING, ids=[lesson.name for lesson in FOLLOWING])
@pytest.mark.parametrize(("language", "other"), [("en", "[\u3400-\u9fff]{2}"), ("zh", r"\b(the|is|and) [a-z]+\b")])
def test_a_reader_of_one_language_is_spared_the_other(lesson: Lesson, language: Language, other: str) -> None:
    shown = list(readable_cells(parse_cells(lesson.path.read_text(encoding="utf-8")), language))
    prose = "\n".join(re.sub(r"`[^`]+`", "", cell.text) for cell in shown if cell.kind == "markdown")
    assert re.search(other, prose) is None
    assert len(sections(parse_cells(lesson.path.read_text(encoding="utf-8")))) >= 10


def test_formulas_of_all_lessons_can_be_shown_in_the_terminal() -> None:
    for lesson in LESSONS:
        for cell in parse_cells(lesson.path.read_text(encoding="utf-8")):
            if cell.kind == "markdown":
                readable_formulas(cell.text)  # raises for LaTeX that it cannot convert


def test_the_plan_has_108_lessons_and_every_file_is_one_of_them() -> None:
    assert len(PHASES) == 12
    assert sum(phase.count for phase in PHASES) == 108
    files = {path.relative_to(lessons_folder()).with_suffix("").as_posix() for path in lessons_folder().rglob("*.py")}
    assert files == {lesson.name for lesson in LESSONS}
    begun = [phase for phase in PHASES if list((lessons_folder() / phase.folder).glob("*.py"))]
    missing = {name for phase in begun[:-1] for name in phase.names} - files
    assert not missing, "every lesson of a phase exists before the next phase is begun"
    print(f"{len(files)} of 108 lessons exist")
