"""`lesson exercise`, `check`, `hint`, `solution` on an exercise of the test's own; code that runs away is stopped."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from dlcommon.course import catalogue, cli, judging
from dlcommon.course.exercises import PLACEHOLDER
from dlcommon.course.progress import read_progress
from dlcommon.runtime.errors import UsageError, UserError

MODULE = '''"""Sums."""

import math
import sys


def weighted(values: list[float], weight: float = math.pi) -> float:
    """The sum of values, times weight."""
    total = sum(values)  # the core
    return total * weight
'''
LESSON = """# %% [markdown]
# # Sums · 求和

# %%
from dlcommon.course.exercises import exercise
from dlcommon.course.session import CheckFailedError
from toy_sums import weighted

# %%
raise RuntimeError("a lesson is not run to judge its exercise")

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. Begin with $x_1$,
#    then go on.
# 2. Multiply.

# %% [markdown] lang="zh"
# 1. 先加。
# 2. 再乘。

# %%
@exercise(weighted)
def judge(yours, reference):
    if yours.weighted([1.0, 2.0], 2.0) != reference.weighted([1.0, 2.0], 2.0):
        raise CheckFailedError("the weight")
"""


@pytest.fixture(autouse=True)
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "toy_sums.py").write_text(MODULE)
    for name, text in (("05-cnn/01-convolution-basics", LESSON), ("05-cnn/02-pooling-layers", LESSON[:40])):
        path = tmp_path / "lessons" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(catalogue, "lessons_folder", lambda: tmp_path / "lessons")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("DL_PROGRESS_DIR", str(tmp_path / "progress"))
    monkeypatch.setenv("DL_EXERCISES_DIR", str(tmp_path / "mine"))
    yield
    sys.modules.pop("toy_sums", None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine" / "05-cnn" / "01-convolution-basics.py"
    assert cli.main(["exercise", "05/01"]) == 0
    return path


def write(file: Path, body: str) -> None:
    file.write_text(file.read_text(encoding="utf-8").replace(PLACEHOLDER, body))


def test_from_the_file_to_passed(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")  # a terminal of its own encoding concerns no judge
    text = file.read_text(encoding="utf-8")
    assert "import math\n" in text
    assert "import sys" not in text, "what the solution does not need is not imported"
    assert "the core" not in text
    assert cli.main(["check", "05/01"]) == 1
    assert "still to be written" in capsys.readouterr().out
    write(file, "print('✓'); return sum(values)")
    assert cli.main(["check", "05/01"]) == 1
    printed = capsys.readouterr().out
    assert "✓" in printed
    assert "not so yet: the weight" in printed
    assert "lesson hint 05/01" in printed
    assert read_progress() == {}
    file.write_text(file.read_text().replace("sum(values)", "sum(values) * weight"))
    assert cli.main(["check", "05/01"]) == 0
    assert read_progress()["05-cnn/01-convolution-basics"].state == "passed"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("while True: pass", "stopped after 1 seconds: a loop does not end"),
        ("import time; time.sleep(60)", "stopped after 1 seconds"),
        ("print('x' * 1_000_000)", "printed more than 50 kB"),
        ("while True: print('again')", "printed more than 50 kB"),
        ("return [values][1]", "line 12: IndexError: list index out of range"),
        ("exit()", r"your code calls exit()"),
        ("raise SystemExit(0)", r"your code calls exit()"),
        ("import os; os._exit(0)", "ended the process (exit code 0)"),
        ("import os; os.kill(os.getpid(), 11)", "ended the process (exit code -11)"),
        ("return input()", "EOFError"),
        ("return weighted(values)", "RecursionError"),
        ("raise KeyboardInterrupt", "ended the process"),
        ("return (1", "line 12: SyntaxError"),
        ("return 1 / 0  # Größe", "line 12: ZeroDivisionError"),
    ],
)
def test_whatever_the_learners_code_does_is_told_and_loses_nothing(
    file: Path, body: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(file, body)
    before = file.read_text()
    seconds = "1" if "after 1 seconds" in told else "60"
    assert cli.main(["check", "05/01", "--seconds", seconds]) == 1
    printed = capsys.readouterr().out
    assert told in printed
    assert "Traceback" not in printed or body == "raise KeyboardInterrupt"
    assert file.read_text() == before
    assert read_progress() == {}


def test_memory_and_children_do_not_outlive_the_judge(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(judging, "MEMORY_BYTES", 300 * 2**20)
    write(
        file,
        "import subprocess, sys, time\n"
        "    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(321)'])\n"
        "    kept = bytes(400 * 2**20).replace(b'\\0', b'1')\n"
        "    time.sleep(60)",
    )
    assert cli.main(["check", "05/01"]) == 1
    assert "of memory" in capsys.readouterr().out
    lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert not [line for line in lines if "import time; time.sleep(321)" in line]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"other = 1", "does not define weighted"),
        (b"\xff\xfe", "not UTF-8"),
        (b"", "does not define weighted"),
        (b"import no_such_module", "line 1: ModuleNotFoundError"),
    ],
)
def test_a_file_that_is_none_is_told(
    tmp_path: Path, content: bytes, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "attempt.py"
    path.write_bytes(content)
    assert cli.main(["check", "05/01", "--file", str(path)]) == 1
    assert told in capsys.readouterr().out


def test_a_second_exercise_keeps_the_first(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(file, "return 42")
    mine = file.read_text()
    assert cli.main(["exercise", "05/01"]) == 0
    assert "stays as it is" in capsys.readouterr().out
    assert file.read_text() == mine
    for number in (1, 2):
        assert cli.main(["exercise", "05/01", "--again"]) == 0
        assert "NotImplementedError" in file.read_text()
        assert file.with_suffix(f".{number}.py").exists()
    assert file.with_suffix(".1.py").read_text() == mine


def test_hints_come_one_by_one_and_the_solution_is_the_modules(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["hint", "05/01", "--language", "en"]) == 0
    printed = capsys.readouterr().out
    assert "1. Begin with x₁, then go on." in printed
    assert "lesson hint 05/01 2" in printed
    cli.main(["hint", "05/01", "2", "--language", "zh"])
    assert capsys.readouterr().out == "2. 再乘。\n"
    cli.main(["solution", "05/01", "--json"])
    assert json.loads(capsys.readouterr().out)["source"] == MODULE[MODULE.index("def") :].rstrip()


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ("exercise 05/02", "05/02 has no exercise; these have: 05/01"),
        ("check 05/02", "no exercise"),
        ("hint 05/02", "no exercise"),
        ("solution 05/02", "no exercise"),
        ("exercise 99/01", "lesson list"),
        ("check 05/01", "lesson exercise 05/01"),
        ("check 05/01 --file nowhere.py", "nowhere.py"),
        ("check 05/01 --seconds 0", "above 0"),
        ("check 05/01 --seconds nan", "above 0"),
        ("hint 05/01 0", "hints 1 to 2, not 0"),
        ("hint 05/01 3", "hints 1 to 2, not 3"),
    ],
)
def test_bad_input_is_one_line(argv: str, told: str) -> None:
    with pytest.raises(UsageError) as error:
        cli.main(argv.split())
    assert told in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_programs_read_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert cli.main(["check", "05/01", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] is False
    assert "still to be written" in found["problem"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DL_EXERCISES_DIR", str(tmp_path / "file"))
    with pytest.raises(UserError, match="a part of that path is a file"):
        cli.main(["exercise", "05/01"])
