"""The learner's exercises: their files, what the judge says of them, hints and solutions."""

import os
from pathlib import Path

from rich.console import Console

from dlcommon.course.catalogue import Lesson, all_lessons
from dlcommon.course.cells import Language, sections
from dlcommon.course.exercises import Exercise, has_exercise, load_exercise
from dlcommon.course.formulas import readable_formulas
from dlcommon.course.judging import judge_file
from dlcommon.course.progress import record_pass
from dlcommon.course.template import numbered
from dlcommon.course.viewer import show_code
from dlcommon.runtime.errors import UsageError
from dlcommon.runtime.files import write_bytes
from dlcommon.runtime.output import Output
from dlcommon.runtime.run_directory import workspace_root


def exercises_root() -> Path:
    """Returns the exercises' folder.

    This is `DL_EXERCISES_DIR`, else `exercises` beside `uv.lock`, else `exercises` in the current directory.
    """
    if chosen := os.environ.get("DL_EXERCISES_DIR"):
        return Path(chosen).expanduser().resolve()
    return (workspace_root() or Path.cwd()) / "exercises"


def exercise_file(lesson: Lesson) -> Path:
    """Returns the path of a lesson's exercise, such as `exercises/03-pytorch/09-training-loop.py`."""
    return exercises_root() / f"{lesson.name}.py"


def load(lesson: Lesson) -> Exercise:
    """Loads a lesson's exercise.

    Raises:
        UsageError: the lesson has no exercise; the message lists those that have one.
    """
    cells = lesson.cells()
    if not has_exercise(cells):
        having = ", ".join(other.key for other in all_lessons() if has_exercise(other.cells()))
        raise UsageError(f"lesson {lesson.key} has no exercise; these have: {having or 'none'}")
    return load_exercise(cells, lesson.path)


def write_exercise(lesson: Lesson, again: bool, output: Output) -> int:
    """Writes the learner's file. An existing file is left alone, or with `again` renamed and kept."""
    exercise, path = load(lesson), exercise_file(lesson)
    names, kept = ", ".join(exercise.names), None
    if path.exists() and again:
        number = next(n for n in range(1, 10_000) if not path.with_suffix(f".{n}.py").exists())
        kept = path.with_suffix(f".{number}.py")
        path.rename(kept)
        output.say(f"your earlier file is now {kept}")
    if path.exists():
        output.say(f"{path} is there already and stays as it is (--again begins anew and keeps it)")
    else:
        heading = (
            f"Exercise {lesson.key} · {lesson.title.en} · {lesson.title.zh}\n\n"
            f"Write {names}. Then: uv run lesson check {lesson.key}   (a hint: uv run lesson hint {lesson.key})\n"
            f"请实现 {names}，然后运行上面的 check 命令；需要提示时用 hint 命令。\n"
        )
        write_bytes(path, exercise.file(heading).encode())
        output.say(f"wrote {path}: write {names}, then `uv run lesson check {lesson.key}`")
    output.result(
        {"lesson": lesson.key, "path": str(path), "names": exercise.names, "kept": str(kept) if kept else None}
    )
    return 0


def check_exercise(lesson: Lesson, file: Path | None, seconds: float, output: Output) -> int:
    """Judges the learner's file and records a pass. Returns the exit code.

    Raises:
        UsageError: there is no file to judge.
    """
    if not has_exercise(lesson.cells()):
        load(lesson)
    path = file or exercise_file(lesson)
    if not path.is_file():
        advice = f"`uv run lesson exercise {lesson.key}` writes it" if file is None else "name one that is there"
        raise UsageError(f"there is no file {path}; {advice}")
    output.say(f"judging {path}")
    verdict = judge_file(lesson, path.resolve(), seconds)
    output.say(verdict.output.rstrip())
    if verdict.passed:
        record_pass(lesson.name)
        output.say(f"passed: lesson {lesson.key} is yours · 通过；next · 下一步: uv run lesson next")
    else:
        output.say(f"  ✗ {verdict.problem}\n  a hint · 提示: uv run lesson hint {lesson.key}")
    output.result({"lesson": lesson.key, "path": str(path), "passed": verdict.passed, "problem": verdict.problem})
    return 0 if verdict.passed else 1


def show_hint(lesson: Lesson, number: int, language: Language, output: Output) -> int:
    """Shows one hint in one language or both.

    Raises:
        UsageError: the lesson has no such hint.
    """
    load(lesson)
    hints = [part for part in sections(lesson.cells(), level=3) if part.english == "Hints"]
    languages: tuple[Language, ...] = ("en", "zh") if language == "both" else (language,)
    listed = [numbered(hints[0].prose(each)) if hints else [] for each in languages]
    count = len(listed[0])
    if not 1 <= number <= count:
        raise UsageError(f"lesson {lesson.key} has hints 1 to {count}, not {number}")
    shown = [readable_formulas(" ".join(each[number - 1].split())) for each in listed]
    output.say("\n".join(shown))
    if number < count:
        output.say(f"next · 下一条: uv run lesson hint {lesson.key} {number + 1}")
    output.result({"lesson": lesson.key, "hint": number, "hints": count, "text": shown})
    return 0


def show_solution(lesson: Lesson, output: Output) -> int:
    """Shows the solution of the exercise: the module's own source of its targets."""
    exercise = load(lesson)
    solution = exercise.solution()
    output.say(f"{exercise.module}: {', '.join(exercise.targets)}\n")
    if output.as_json:
        output.result({"lesson": lesson.key, "module": exercise.module, "source": solution})
        return 0

    show_code(solution, Console())
    return 0
