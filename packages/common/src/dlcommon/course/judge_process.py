"""The process in which a learner's code is judged: `python -m dlcommon.course.judge_process LESSON CODE VERDICT`.

It writes the verdict to a file: first `{"began": true}` once everything is imported, then what came of it. A process
that ends without a verdict was killed, or the learner's code ended it.
"""

import sys
import traceback
from pathlib import Path
from types import ModuleType

from dlcommon.course.cells import parse_cells
from dlcommon.course.exercises import WRITE_THIS, Exercise, load_exercise
from dlcommon.course.session import CheckFailedError
from dlcommon.runtime.files import write_json


def judge(exercise: Exercise, code: Path) -> str | None:
    """Runs the learner's file and then the judge. Returns the problem, or None if the exercise is passed."""
    learner = ModuleType("exercise")
    learner.__file__ = str(code)
    try:
        exec(compile(code.read_text(encoding="utf-8"), str(code), "exec"), vars(learner))
        if missing := [name for name in exercise.names if not hasattr(learner, name)]:
            return f"{code.name} does not define {', '.join(missing)}"
        exercise.judge(learner, sys.modules[exercise.module])
    except CheckFailedError as error:
        return f"not so yet: {error}"
    except NotImplementedError as error:
        return f"{_line(error, code)}still to be written" if str(error) == WRITE_THIS else _told(error, code)
    except SystemExit:
        return "your code calls exit(); remove the call"
    except KeyboardInterrupt:
        raise
    except UnicodeDecodeError:
        return f"{code.name} is not UTF-8 text"
    except BaseException as error:
        return _told(error, code)
    return None


def _told(error: BaseException, code: Path) -> str:
    if isinstance(error, SyntaxError) and error.filename == str(code):
        return f"line {error.lineno}: {type(error).__name__}: {error.msg}"
    message = " ".join(str(error).split())[:300]
    return f"{_line(error, code)}{type(error).__name__}: {message}"


def _line(error: BaseException, code: Path) -> str:
    """Names the innermost line of the learner's file that led to the error, as in `line 34: `; "" if there is none."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(code)]
    return f"line {lines[-1]}: " if lines else ""


def main(lesson: Path, code: Path, verdict: Path) -> None:
    exercise = load_exercise(parse_cells(lesson.read_text(encoding="utf-8")), lesson)
    write_json(verdict, {"began": True})
    problem = judge(exercise, code)
    sys.stdout.flush()
    write_json(verdict, {"problem": problem})


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
