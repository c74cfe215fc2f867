"""Every lesson runs from start to end, its checks hold, and the list is the plan's."""

import re

import pytest
from dlcommon.course.catalogue import all_lessons, lessons_folder
from dlcommon.course.plan import PHASES
from dlcommon.course.runner import run_lesson

LESSONS = all_lessons()


@pytest.mark.parametrize("lesson", LESSONS, ids=[lesson.name for lesson in LESSONS])
def test_lesson(lesson, tmp_path):
    outcome = run_lesson(lesson, figures=tmp_path)
    assert outcome.passed, outcome.problem
    assert outcome.checks >= 3
    assert list(tmp_path.glob("*.png")), "a lesson draws at least one figure"


@pytest.mark.parametrize("lesson", LESSONS, ids=[lesson.name for lesson in LESSONS])
def test_opens_in_both_languages(lesson):
    text = lesson.path.read_text(encoding="utf-8")
    assert text.startswith("# %% [markdown]\n# # ")
    first_cell = text.split("# %%")[1]
    assert lesson.title.en in first_cell
    assert len(re.findall(r"[\u4e00-\u9fff]", first_cell)) >= 60, "the opening explains the idea in Chinese as well"
    assert len(first_cell.encode("ascii", "ignore")) >= 300, "the opening explains the idea in English"


def test_the_plan_has_108_lessons_and_every_file_is_one_of_them():
    assert len(PHASES) == 12
    assert sum(phase.count for phase in PHASES) == 108
    files = {path.relative_to(lessons_folder()).with_suffix("").as_posix() for path in lessons_folder().rglob("*.py")}
    assert files == {lesson.name for lesson in LESSONS}
    wanted = {name for phase in PHASES for name in phase.names if (lessons_folder() / phase.folder).is_dir()}
    assert files == wanted, "each lesson of a phase that is begun exists"
    print(f"{len(files)} of 108 lessons exist")
