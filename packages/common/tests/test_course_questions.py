"""Questions of a lesson: asked before, settled after; `lesson quiz`."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dlcommon.course import catalogue, cli, questions
from dlcommon.course.lesson import quiz, settle
from dlcommon.course.progress import load
from dlcommon.runtime.errors import UsageError

CHOICES = {"up": "up · 上升", "down": "down · 下降"}
LESSON = """# %% [markdown]
# # A title · 标题

# %%
from dlcommon.course.lesson import check, quiz, settle

# %%
quiz("size", en="How many?", zh="多少？")
quiz("way", en="Which way?", zh="哪个方向？", choices={"up": "up · 上升", "down": "down · 下降"})

# %%
print("something else")

# %%
settle("size", 200.0, tolerance=0.05)
settle("way", "down")
check("done", True)
"""
NAME = "05-cnn/01-convolution-basics"


@pytest.fixture(autouse=True)
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "lessons" / f"{NAME}.py"
    path.parent.mkdir(parents=True)
    path.write_text(LESSON, encoding="utf-8")
    path.with_name("02-pooling-layers.py").write_text(LESSON.replace("quiz(", "print("), encoding="utf-8")
    monkeypatch.setattr(catalogue, "lessons_folder", lambda: tmp_path / "lessons")
    monkeypatch.setenv("DL_PROGRESS_DIR", str(tmp_path / "progress"))
    monkeypatch.setattr(questions, "asking", "always")
    monkeypatch.setattr(questions, "language", "en")
    yield path
    questions.questions.clear()


def types(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


@pytest.mark.parametrize(
    ("typed", "answer", "tolerance", "right"),
    [
        ("2.3", 2.303, 0.05, True),
        ("2", 2.303, 0.05, False),
        ("many\n2.3", 2.303, 0.05, True),
        ("90%", 0.9, 0.01, True),
        ("-3", -3.1, 0.1, True),
        ("3", -3.0, 0.1, False),
        ("nan", 1.0, 0.1, False),
        ("", 1.0, 0.1, None),
    ],
)
def test_a_number_is_right_within_the_tolerance(
    typed: str,
    answer: float,
    tolerance: float,
    right: bool | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    types(monkeypatch, f"{typed}\n")
    quiz("size", en="How many?", zh="多少？")
    settle("size", answer, tolerance)
    assert questions.questions["size"].right is right
    assert f"= size: {answer:.4g}" in capsys.readouterr().out


@pytest.mark.parametrize(("typed", "right"), [("b", True), ("B)", True), ("a", False), ("z\nb", True), ("\n", None)])
def test_one_of_several_is_right(
    typed: str, right: bool | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    types(monkeypatch, f"{typed}\n")
    quiz("way", en="Which way?", zh="哪个方向？", choices=CHOICES)
    settle("way", "down")
    assert questions.questions["way"].right is right
    printed = capsys.readouterr().out
    assert "b) down" in printed
    assert "下降" not in printed, "a reader of English sees the choices in English"


def test_what_was_never_asked_or_is_no_choice_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    types(monkeypatch, "")
    with pytest.raises(KeyError):
        settle("nothing", 1.0)
    quiz("way", en="Which way?", zh="哪个方向？", choices=CHOICES)
    with pytest.raises(ValueError, match="sideways"):
        settle("way", "sideways")


def test_without_a_terminal_questions_are_only_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(questions, "asking", "where possible")
    types(monkeypatch, "2.3\n")
    quiz("size", en="How many?", zh="多少？")
    settle("size", 1.0)
    assert sys.stdin.read() == "2.3\n"
    assert "How many?" in capsys.readouterr().out


def test_the_quiz_asks_judges_and_records(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    types(monkeypatch, "205\na\n")
    assert cli.main(["quiz", "05/01", "--language", "both"]) == 0
    printed = capsys.readouterr().out
    assert "something else" not in printed
    assert "1 of 2 predictions right" in printed
    answers = load().quiz[NAME]
    assert (answers["size"].answer, answers["size"].right) == (205.0, True)
    assert (answers["way"].answer, answers["way"].right) == ("up", False)


def test_answers_that_end_early_are_passed_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    types(monkeypatch, "200")
    assert cli.main(["quiz", "05/01"]) == 0
    assert "1 of 1 predictions right, 2 questions" in capsys.readouterr().out
    assert load().quiz[NAME].keys() == {"size"}


def test_a_plain_run_does_not_wait(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    types(monkeypatch, "205\na\n")
    assert cli.main(["run", "05/01"]) == 0
    assert "something else" in capsys.readouterr().out
    assert load().quiz == {}


def test_a_question_that_is_never_settled_fails_the_lesson(asked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked.write_text(asked.read_text(encoding="utf-8").replace('settle("way", "down")', ""), encoding="utf-8")
    assert cli.main(["run", "05/01"]) == 1
    assert "never settled the question 'way'" in capsys.readouterr().err


def test_a_lesson_without_questions_says_so() -> None:
    with pytest.raises(UsageError, match="asks no questions"):
        cli.main(["quiz", "05/02"])
