"""Shows the plan's progress table, its milestones and its reading list, filled in with what this learner has done."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from unicodedata import east_asian_width

from dlcommon.course.catalogue import all_lessons
from dlcommon.course.milestones import MILESTONES, Standing, standing_of_demand, standing_of_milestone
from dlcommon.course.plan import PHASES, Phase, lesson_key
from dlcommon.course.progress import Progress, load, record_reading
from dlcommon.course.projects import Project, projects
from dlcommon.course.projects import State as ProjectState
from dlcommon.course.reading import BOOKS, COURSES, PAPERS, Paper, Reading, check_names
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.output import Output

Language = Literal["en", "zh"]
LessonState = Literal["to come", "open", "run", "passed"]
PhaseState = Literal["not begun", "under way", "done"]

HEADINGS = LocalizedText("WEEKS PHASE DONE RUN PROJECT STATE", "周次 阶段 完成文件数 已运行 实战项目 状态")
PHASE_STATES: dict[PhaseState, LocalizedText] = {
    "not begun": LocalizedText("⏳ not begun", "⏳ 待开始"),
    "under way": LocalizedText("🔄 under way", "🔄 进行中"),
    "done": LocalizedText("✅ done", "✅ 已完成"),
}
LESSON_STATES: dict[LessonState, LocalizedText] = {
    "to come": LocalizedText("to come", "待编写"),
    "open": LocalizedText("open", "未学"),
    "run": LocalizedText("run", "已运行"),
    "passed": LocalizedText("passed", "已通过"),
}
PROJECT_STATES: dict[ProjectState, LocalizedText] = {
    "to come": LocalizedText("to come", "待编写"),
    "not trained": LocalizedText("not trained by you yet", "你尚未训练"),
    "other data": LocalizedText("trained by you on other data only", "你只在其他数据上训练过"),
    "below goal": LocalizedText("trained by you, below the goal", "你已训练，未达目标"),
    "trained": LocalizedText("trained by you", "你已训练"),
}
DONE_MEANS = LocalizedText(
    "Done: your own code passed the lesson's judge (lesson exercise, lesson check). Run: the lesson ran to its end.",
    "完成：你自己写的代码通过了这一课的评判（lesson exercise、lesson check）。已运行：整课运行完毕。",
)


def show_progress(language: Language, read: tuple[str, ...], unread: tuple[str, ...], output: Output) -> int:
    """Ticks off what was read and prints the progress report. Returns the exit code.

    Args:
        language: language of the report.
        read: names on the reading list to tick off.
        unread: names whose tick is taken back.
        output: where the report goes.

    Raises:
        UsageError: a name is not on the reading list.
        UserError: the progress is damaged or cannot be written.
    """
    check_names((*read, *unread))
    if read or unread:
        record_reading(read, unread)
    progress, trained = load(), projects()
    written = {lesson.name for lesson in all_lessons()}
    states: dict[str, LessonState] = {}
    for name in (name for phase in PHASES for name in phase.names):
        known = progress.lessons.get(name)
        states[name] = known.state if known else "open" if name in written else "to come"
    report = _Report(language, output)
    phases = report.table(states)
    milestones = report.milestones(progress, trained)
    reading = report.reading(progress, states)
    total = sum(row["done"] for row in phases)
    output.result(
        {
            "phases": phases,
            "done": total,
            "run": sum(row["run"] for row in phases),
            "lessons": len(states),
            "to_come": sum(state == "to come" for state in states.values()),
            "milestones": milestones,
            "projects": [_project_row(project) for project in trained.values()],
            "reading": reading,
        }
    )
    return 0


class _Report:
    """Prints each part in the reader's language and returns its rows for programs."""

    def __init__(self, language: Language, output: Output) -> None:
        self.chinese = language == "zh"
        self.output = output

    def text(self, text: LocalizedText) -> str:
        return text.zh if self.chinese else text.en

    def say(self, en: str, zh: str) -> None:
        self.output.say(zh if self.chinese else en)

    def table(self, states: Mapping[str, LessonState]) -> list[dict[str, Any]]:
        lines, rows, further = [tuple(self.text(HEADINGS).split())], [], []
        for phase in PHASES:
            row = _phase_row(phase, states)
            rows.append(row)
            to_come = row["to_come"]
            state = self.text(PHASE_STATES[row["state"]])
            if to_come:
                state += f" ({to_come} 课待编写)" if self.chinese else f" ({to_come} to come)"
            lines.append(
                (
                    row["weeks"],
                    f"Phase {phase.number} {self.text(phase.title)}",
                    f"{row['done']}/{phase.count}",
                    str(row["run"]),
                    self.text(phase.project) if phase.project else "-",
                    state,
                )
            )
            further += [f"{self.text(project)} → {key}" for project, key in phase.lesson_projects]
        _align(lines, self.output)
        done, run = (sum(row[key] for row in rows) for key in ("done", "run"))
        to_come = sum(row["to_come"] for row in rows)
        self.say(
            f"done {done} / {len(states)}, run only {run}, to come {to_come}; projects within lessons: "
            + ", ".join(further),
            f"完成 {done} / {len(states)}，仅运行 {run}，待编写 {to_come}；课内项目：" + "，".join(further),
        )
        self.output.say(self.text(DONE_MEANS))
        return rows

    def milestones(self, progress: Progress, trained: Mapping[int, Project]) -> list[dict[str, Any]]:
        self.say("\nMILESTONES", "\n学习里程碑检查")
        rows = []
        for milestone in MILESTONES:
            whole = standing_of_milestone(milestone, progress.lessons, trained)
            self.output.say(f"[{_tick(whole.holds)}] {self.text(milestone.title)}  {self._lessons(whole)}")
            demands = []
            for demand in milestone.demands:
                standing = standing_of_demand(demand, progress.lessons, trained)
                keys = ", ".join(_ranges([lesson_key(name) for name in standing.lessons]))
                lessons = f"  {keys}: {self._lessons(standing)}" if standing.lessons else ""
                self.output.say(f"    [{_tick(standing.holds)}] {self.text(demand.text)}{lessons}")
                for project in standing.projects:
                    self.output.say(f"        [{_tick(project.done)}] {self._project(project)}")
                demands.append(
                    {
                        **_both(demand.text),
                        **_standing_row(standing),
                        "projects": [project.phase.number for project in standing.projects],
                    }
                )
            title = {"week": milestone.week, **_both(milestone.title)}
            rows.append({**title, **_standing_row(whole), "demands": demands})
        self.say("Train a project: uv run --package NAME train", "训练项目：uv run --package 名称 train")
        return rows

    def _lessons(self, standing: Standing) -> str:
        count = f"{standing.passed}/{len(standing.lessons)}"
        return f"{count} 课已通过" if self.chinese else f"{count} lessons passed"

    def _project(self, project: Project) -> str:
        if project.capstone is None:
            title = self.text(project.phase.project) if project.phase.project else ""
            return f"{title}：项目待编写" if self.chinese else f"{title}: project to come"
        goal = f" ≥ {project.goal:g}" if project.goal is not None else ""
        facts = [f"{project.capstone} ({project.data}, {project.metric}{goal}): {self._project_state(project)}"]
        if project.best is not None:
            facts.append(f"{project.best.value:.4f}, {project.best.source.name}")
        elif project.recorded is not None:
            recorded = f"{project.recorded.value:.4f}"
            facts.append(f"仓库中的记录为 {recorded}" if self.chinese else f"recorded in this repository: {recorded}")
        return ("；" if self.chinese else "; ").join(facts)

    def _project_state(self, project: Project) -> str:
        return self.text(PROJECT_STATES[project.state])

    def reading(self, progress: Progress, states: Mapping[str, LessonState]) -> list[dict[str, Any]]:
        by_key = {lesson_key(name): state for name, state in states.items()}
        rows = []
        for heading, readings in (
            (LocalizedText("BOOKS", "必读书籍"), BOOKS),
            (LocalizedText("COURSES", "推荐课程"), COURSES),
            (LocalizedText("PAPERS", "关键论文阅读"), PAPERS),
        ):
            self.output.say(f"\n{self.text(heading)}")
            lines: list[tuple[str, ...]] = []
            for reading in readings:
                read_at = progress.reading.get(reading.name)
                line = (f"[{_tick(read_at is not None)}]", reading.name, *self._reading(reading, by_key))
                lines.append(line)
                rows.append(_reading_row(reading, read_at.isoformat() if read_at else None, by_key))
            _align(lines, self.output)
        self.say(
            "Tick one off: lesson progress --read resnet; take it back: --unread resnet",
            "读完后打勾：lesson progress --read resnet；取消：--unread resnet",
        )
        return rows

    def _reading(self, reading: Reading, by_key: Mapping[str, LessonState]) -> tuple[str, ...]:
        if not isinstance(reading, Paper):
            return (self.text(reading.title), reading.address)
        lesson = f"→ {reading.lesson} {self.text(LESSON_STATES[by_key[reading.lesson]])}"
        return (f"Phase {reading.phase}", "⭐" * reading.stars, reading.title.en, lesson, reading.address)


def _phase_row(phase: Phase, states: Mapping[str, LessonState]) -> dict[str, Any]:
    of_phase = [states[name] for name in phase.names]
    done, run, to_come = (of_phase.count(state) for state in ("passed", "run", "to come"))
    state: PhaseState = "done" if done == phase.count else "under way" if done or run else "not begun"
    return {
        "phase": phase.number,
        "weeks": "-".join(str(week) for week in dict.fromkeys(phase.weeks)),
        "title": _both(phase.title),
        "done": done,
        "run": run,
        "to_come": to_come,
        "lessons": {name: states[name] for name in phase.names},
        "project": _both(phase.project) if phase.project else None,
        "state": state,
    }


def _project_row(project: Project) -> dict[str, Any]:
    return {
        "phase": project.phase.number,
        "capstone": project.capstone,
        "state": project.state,
        "data": project.data,
        "metric": project.metric,
        "goal": project.goal,
        "best": {"value": project.best.value, "run": str(project.best.source)} if project.best else None,
        "recorded": project.recorded.value if project.recorded else None,
    }


def _standing_row(standing: Standing) -> dict[str, Any]:
    return {
        "holds": standing.holds,
        "lessons": [lesson_key(name) for name in standing.lessons],
        "passed": standing.passed,
    }


def _reading_row(reading: Reading, read_at: str | None, by_key: Mapping[str, LessonState]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": reading.name,
        "title": _both(reading.title),
        "address": reading.address,
        "read_at": read_at,
    }
    if isinstance(reading, Paper):
        lesson = {"lesson": reading.lesson, "lesson_state": by_key[reading.lesson]}
        row |= {"phase": reading.phase, "stars": reading.stars, **lesson}
    return row


def _both(text: LocalizedText) -> dict[str, str]:
    return {"en": text.en, "zh": text.zh}


def _tick(holds: bool) -> str:
    return "x" if holds else " "


def _ranges(keys: Sequence[str]) -> list[str]:
    """Shortens sorted keys: `05/01 … 05/12` to `05/01-12`."""
    groups: list[list[str]] = []
    for key in keys:
        before = groups[-1][-1] if groups else ""
        if before[:3] == key[:3] and int(before[3:]) + 1 == int(key[3:]):
            groups[-1].append(key)
        else:
            groups.append([key])
    return [group[0] if len(group) == 1 else f"{group[0]}-{group[-1][3:]}" for group in groups]


def _align(lines: Sequence[tuple[str, ...]], output: Output) -> None:
    widths = [max(_width(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        cells = (cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True))
        output.say("  ".join(cells).rstrip())


def _width(text: str) -> int:
    """Counts the terminal columns of a text; Chinese characters and emoji take two."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)
