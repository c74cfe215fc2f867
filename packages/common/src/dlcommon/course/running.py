"""`lesson list`, `next`, `run`, `quiz` and `verify`."""

import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from dlcommon.course.catalogue import Lesson, all_lessons, measured_seconds, record_seconds
from dlcommon.course.cells import Language
from dlcommon.course.exercises import has_exercise, load_exercise
from dlcommon.course.plan import PHASES
from dlcommon.course.practice import exercise_file
from dlcommon.course.progress import LessonProgress, read_progress, record_quiz, record_run
from dlcommon.course.questions import Asking
from dlcommon.course.template import template_problems
from dlcommon.course.viewer import narration
from dlcommon.runtime.errors import UsageError
from dlcommon.runtime.output import Output

MARKS = {None: " ", "run": "·", "passed": "✓"}


def list_lessons(output: Output) -> int:
    """Shows every lesson's state, path, title and time."""
    progress, measured, rows = read_progress(), measured_seconds(), []
    output.say(
        "✓ passed: your exercise holds · 练习通过    · run: its checks held · 已运行    e: has an exercise · 有练习"
    )
    for phase in PHASES:
        lessons = [lesson for lesson in all_lessons() if lesson.phase is phase]
        output.say(f"\n{phase.folder}  {phase.title}  ({len(lessons)} of {phase.count})")
        for lesson in lessons:
            done = progress.get(lesson.name)
            state = done.state if done else None
            exercise, seconds = has_exercise(lesson.cells()), measured.get(lesson.name)
            time = f"{seconds:4.0f} s" if seconds is not None else "      "
            marks = f"{MARKS[state]}{'e' if exercise else ' '}"
            output.say(f"  {marks} {lesson.key} {time}  {_shown(lesson.path):62}  {lesson.title}")
            row = {"lesson": lesson.key, "name": lesson.name, "title": lesson.title.en, "path": str(lesson.path)}
            rows.append({**row, "state": state, "exercise": exercise, "seconds": seconds})
    output.result({"lessons": rows, "planned": sum(phase.count for phase in PHASES)})
    return 0


def _shown(path: Path) -> str:
    """Shortens a path below the current directory to a relative one."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def say_next(output: Output) -> int:
    """Names the first unfinished lesson and its next steps. A lesson without an exercise is finished once run."""
    progress = read_progress()
    for lesson in all_lessons():
        done, exercise = progress.get(lesson.name), has_exercise(lesson.cells())
        state = done.state if done else None
        if state == "passed" or (state == "run" and not exercise):
            continue
        steps = [f"read {lesson.key}", f"run {lesson.key}"] if state is None else []
        if exercise:
            steps += [f"quiz {lesson.key}"] if state is None else []
            steps += [] if exercise_file(lesson).exists() else [f"exercise {lesson.key}"]
            steps += [f"check {lesson.key}", f"interview {lesson.key}"]
        output.say(f"lesson {lesson.key} · {lesson.title}")
        output.say("\n".join(f"  uv run lesson {step}" for step in steps))
        output.result({"lesson": lesson.key, "state": state, "commands": [f"lesson {step}" for step in steps]})
        return 0
    output.say("all lessons are done · 全部课程已完成")
    output.result({"lesson": None, "state": "done", "commands": []})
    return 0


def run(lesson: Lesson, arguments: tuple[str, ...], language: Language, output: Output, quiz: bool = False) -> int:
    """Runs a lesson and shows its headings and first sentences between its output.

    Args:
        quiz: only asks the lesson's questions, even if standard input is no terminal, and shows their cells' output.
    """
    from dlcommon.course.runner import run_lesson

    if quiz and not any("quiz(" in cell.text for cell in lesson.cells() if cell.kind == "code"):
        raise UsageError(f"lesson {lesson.key} asks no questions yet")
    output.say(f"lesson {lesson.key} · {lesson.title}{_duration(lesson, read_progress().get(lesson.name))}")

    def narrate(cell: Any) -> None:
        if said := narration(cell, language):
            print(said, flush=True)

    with redirect_stdout(sys.stderr if output.as_json else sys.stdout):
        asking: Asking = "always" if quiz else "never" if output.as_json else "where possible"
        outcome = run_lesson(
            lesson,
            arguments=arguments,
            narrate=None if quiz else narrate,
            asking=asking,
            only_questions=quiz,
            language=language,
        )
    answered = [question for question in outcome.questions if question.guess is not None]
    for question in answered:
        assert question.guess is not None
        record_quiz(lesson.name, question.name, question.guess, bool(question.right))
    right = sum(bool(question.right) for question in answered)
    if outcome.passed:
        record_run(lesson.name, outcome.seconds, outcome.checks)
        if outcome.questions and (quiz or answered):
            asked = len(outcome.questions)
            output.say(
                f"\n{right} of {len(answered)} predictions right, {asked} questions · 预测正确 {right} / {asked}"
            )
        output.say(f"\nrun: {outcome.checks} checks hold, {outcome.seconds:.1f} s · 检验全部成立")
        output.say("next · 下一步: uv run lesson next")
    else:
        print(f"not passed: {outcome.problem}", file=sys.stderr)
    output.result(
        {
            "lesson": lesson.key,
            "passed": outcome.passed,
            "checks": outcome.checks,
            "seconds": round(outcome.seconds, 2),
            "questions": len(outcome.questions),
            "answered": len(answered),
            "right": right,
            "problem": outcome.problem,
        }
    )
    return 0 if outcome.passed else 1


def _duration(lesson: Lesson, done: LessonProgress | None) -> str:
    """Formats how long a lesson takes: as it took here last time, else as it was measured."""
    if done is not None and done.seconds is not None:
        return f" · about {max(done.seconds, 1):.0f} s, as last time · 约 {max(done.seconds, 1):.0f} 秒"
    seconds = measured_seconds().get(lesson.name)
    return f" · about {max(seconds, 1):.0f} s · 约 {max(seconds, 1):.0f} 秒" if seconds is not None else ""


def verify(lessons: list[Lesson], record: bool, output: Output) -> int:
    """Runs lessons one after the other; checks those with an exercise against the template and their own solution."""
    from dlcommon.course.runner import run_lesson

    failed, rows, measured = 0, [], {}
    for lesson in lessons:
        with redirect_stdout(StringIO()):
            outcome = run_lesson(lesson)
        problems = [outcome.problem] if outcome.problem is not None else []
        if has_exercise(cells := lesson.cells()):
            problems += template_problems(lesson.path.read_text(encoding="utf-8"))
            exercise = load_exercise(cells, lesson.path)
            with redirect_stdout(StringIO()):
                try:
                    exercise.judge(sys.modules[exercise.module], sys.modules[exercise.module])
                except Exception as error:
                    problems.append(f"the judge refuses the solution: {type(error).__name__}: {error}")
        failed += bool(problems)
        said = f"{outcome.checks} checks" if not problems else "\n    ".join(problems)
        output.say(f"{'✗' if problems else '✓'} {lesson.name:44} {outcome.cpu_seconds:6.1f} s  {said}")
        rows.append(
            {
                "lesson": lesson.key,
                "passed": not problems,
                "problems": problems,
                "cpu_seconds": round(outcome.cpu_seconds, 2),
            }
        )
        if outcome.passed:
            measured[lesson.name] = outcome.cpu_seconds
    if record:
        record_seconds(measured)
    output.say(f"{len(rows) - failed} of {len(rows)} pass")
    output.result({"lessons": rows, "failed": failed})
    return 1 if failed else 0
