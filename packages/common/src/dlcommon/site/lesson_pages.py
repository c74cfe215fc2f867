"""A lesson as a page in one language: its prose, code, and what its cells showed when it ran."""

import ast
import os
import re
import textwrap
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from dlcommon.course.catalogue import Lesson, measured_seconds
from dlcommon.course.cells import Cell
from dlcommon.course.exercises import has_exercise
from dlcommon.course.plan import PHASES
from dlcommon.runtime.localization import LocalizedText
from dlcommon.site.lesson_runs import LessonRun, Shown
from dlcommon.site.localized import COURSE, SiteLanguage, text_in
from dlcommon.site.markdown import PageText
from dlcommon.site.pages import Pages, relative
from dlcommon.site.shown import shown_as_markdown

_HINTS = LocalizedText("Hints", "提示")
_JUDGE = LocalizedText("The judge of your code", "评判你的代码")
_NOT_RUN = LocalizedText(
    "This page was built without running the lesson, so that it shows no output.",
    "生成本页时没有运行课程，因此没有输出。",
)
_FACTS = LocalizedText("Lesson {key} · about {seconds:.0f} s on one core", "第 {key} 课 · 单核约 {seconds:.0f} 秒")
_LESSON = LocalizedText("Lesson", "课")
_SECONDS = LocalizedText("Seconds", "秒")
_EXERCISE = LocalizedText("Exercise", "练习")
_INTRODUCTION = LocalizedText(
    "{count} of the plan's 108 lessons are here so far. Each is a script in cells: read it here, run it with "
    "`uv run lesson run KEY`, write its core yourself with `uv run lesson exercise KEY`.",
    "计划共 108 课，目前有 {count} 课。每课是一个分单元格的脚本：在这里阅读，用 `uv run lesson run 编号` 运行，"
    "用 `uv run lesson exercise 编号` 自己实现核心代码。",
)


def page_of(lesson: Lesson) -> str:
    return f"course/{lesson.name}.md"


def write_lesson(pages: Pages, lesson: Lesson, run: LessonRun | None) -> None:
    """Writes the page of a lesson; without a run, it holds no output."""
    page, source = page_of(lesson), PurePosixPath(lesson.path.relative_to(pages.root).as_posix())
    text, parts, hints = PageText(pages.language, english_anchors=True), [], False
    shown = run.cells if run else {}
    questions = {
        each.content["name"]: each.content for cell in shown.values() for each in cell if each.kind == "question"
    }
    for cell in lesson.cells():
        if cell.kind == "code":
            hints = False
            if run is None or not _only_shows(cell.text):
                parts.append(_code(cell, pages.language))
            parts.append(_shown(pages, page, lesson, shown.get(cell.line, []), questions))
        elif cell.language in (None, pages.language):
            if cell.heading() is not None:
                hints = re.match(r"### Hints\b", cell.text) is not None
            markdown = text.render(pages.with_links(cell.text, source, page))
            if hints and cell.language is not None:
                markdown = f'??? tip "{text_in(_HINTS, pages.language)}"\n\n{textwrap.indent(markdown, "    ")}'
            parts.append(markdown)
            if len(parts) == 1:
                parts.append(_facts(lesson, pages.language, run is not None))
    pages.write(page, "\n\n".join(part for part in parts if part) + "\n")


def _facts(lesson: Lesson, language: SiteLanguage, has_run: bool) -> str:
    facts = text_in(_FACTS, language).format(key=lesson.key, seconds=max(1, measured_seconds().get(lesson.name, 1)))
    commands = [f"uv run lesson run {lesson.key}"]
    if has_exercise(lesson.cells()):
        commands += [f"uv run lesson quiz {lesson.key}", f"uv run lesson exercise {lesson.key}"]
    warning = "" if has_run else f"\n\n!!! warning\n\n    {text_in(_NOT_RUN, language)}"
    shown = "\n".join(commands)
    return f'<p class="facts">{facts}</p>\n\n```bash\n{shown}\n```{warning}'


def _code(cell: Cell, language: SiteLanguage) -> str:
    fenced = f"```python\n{cell.text}\n```"
    if f"\n{cell.text}".find("\n@exercise(") >= 0:
        return f'??? example "{text_in(_JUDGE, language)}"\n\n{textwrap.indent(fenced, "    ")}'
    return fenced


def _only_shows(code: str) -> bool:
    """Says whether code only asks questions or shows sources, so that what it shows stands for it."""
    calls = [node.value for node in ast.parse(code).body if isinstance(node, ast.Expr)]
    names = {call.func.id for call in calls if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)}
    return len(calls) == len(ast.parse(code).body) and names <= {"quiz", "source"}


def _shown(pages: Pages, page: str, lesson: Lesson, shown: list[Shown], questions: Mapping[str, dict[str, Any]]) -> str:
    def figure_address(name: str) -> str:
        # Figures lie beside the languages' folders, which share them.
        return os.path.relpath(f"../figures/{lesson.name}/{name}", PurePosixPath(page).parent)

    def link(module: str) -> str | None:
        target = pages.page_of_module(module)
        return relative(target, page) if target else None

    return shown_as_markdown(shown, pages.language, questions, figure_address, link)


def write_course(pages: Pages, lessons: list[Lesson]) -> None:
    """Writes the overview of the lessons by phase."""
    language, seconds = pages.language, measured_seconds()
    lines = [f"# {text_in(COURSE, language)}", "", text_in(_INTRODUCTION, language).format(count=len(lessons))]
    for phase in PHASES:
        of_phase = [lesson for lesson in lessons if lesson.phase is phase]
        if not of_phase:
            continue
        header = " | ".join(text_in(name, language) for name in (_LESSON, _SECONDS, _EXERCISE))
        lines += ["", f"## {phase.number} · {text_in(phase.title, language)} {{#{phase.folder}}}", ""]
        lines += [f"| | {header} |", "|---|---|--:|:-:|"]
        for lesson in of_phase:
            title = f"[{text_in(lesson.title, language)}]({relative(page_of(lesson), 'course/index.md')})"
            time = f"{seconds[lesson.name]:.0f}" if lesson.name in seconds else ""
            lines.append(f"| {lesson.key} | {title} | {time} | {'✓' if has_exercise(lesson.cells()) else ''} |")
    pages.write("course/index.md", "\n".join(lines) + "\n")
