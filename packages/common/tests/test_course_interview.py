"""Interview questions: asked when due, recorded, rendered."""

import io
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dlcommon.course import catalogue, cli
from dlcommon.course.interview import due_questions, interview_document, interview_questions, render
from dlcommon.course.progress import load, record_interview
from dlcommon.runtime.errors import UsageError, UserError

QUESTION = """# %% [markdown]
# ### Why {n}? · 为什么{n}？

# %% [markdown] lang="en"
# Because $x_{n}$.

# %% [markdown] lang="zh"
# 因为，
# 如此{n}。

# %%
print({n})

"""
LESSON = "# %% [markdown]\n# # A title · 标题\n\n# %% [markdown]\n# ## Interview · 面试\n\n"
NAME = "05-cnn/01-convolution-basics"


@pytest.fixture(autouse=True)
def lessons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {NAME: (1, 2, 3), "06-rnn/01-rnn-basics": (4,), "06-rnn/02-bptt": ()}
    for name, numbers in texts.items():
        path = tmp_path / "packages" / "common" / "lessons" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = LESSON + "".join(QUESTION.replace("{n}", str(n)) for n in numbers)
        path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(catalogue, "lessons_folder", lambda: tmp_path / "packages" / "common" / "lessons")
    monkeypatch.setenv("DL_PROGRESS_DIR", str(tmp_path / "progress"))


def interview(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, *argv: str) -> str:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    assert cli.main(["interview", *argv]) == 0
    return capsys.readouterr().out


def test_questions_are_read_with_both_answers_and_the_code() -> None:
    first, *others = interview_questions(catalogue.all_lessons())
    assert first.key == f"{NAME}#1"
    assert (str(first.text), first.answer.zh, first.code) == ("Why 1? · 为什么1？", "因为，如此1。", "print(1)")
    assert [question.text.en for question in others] == ["Why 2?", "Why 3?", "Why 4?"]


def test_what_is_not_known_comes_first_and_what_is_known_comes_later() -> None:
    questions, now = interview_questions(catalogue.all_lessons()), datetime.now(UTC)
    record_interview(f"{NAME}#1", True)
    record_interview(f"{NAME}#3", False)
    record_interview(f"{NAME}#2", True)
    numbers = [[q.text.en for q in due_questions(questions, now + timedelta(days=days))] for days in (0.001, 2)]
    assert numbers == [["Why 3?", "Why 4?"], ["Why 3?", "Why 1?", "Why 2?", "Why 4?"]]


def test_answers_are_shown_after_the_question_and_recorded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = interview(monkeypatch, capsys, "\ny\n\nmaybe\nn\nq\n", "5", "--language", "en")
    assert printed.index("Why 1?") < printed.index("Because x₁") < printed.index("Why 2?")
    assert "print(1)" in printed
    assert "因为" not in printed
    assert "1 of 2 known" in printed
    known = load().interview
    assert {key: answer.streak for key, answer in known.items()} == {f"{NAME}#1": 1, f"{NAME}#2": 0}


def test_the_input_may_end_anywhere(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for typed, count in (("", 0), ("\n", 0), ("\ny\n", 1)):
        assert f"of {count} known" in interview(monkeypatch, capsys, typed, "05")
    assert len(load().interview) == 1


def test_when_nothing_is_due_it_says_when(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    interview(monkeypatch, capsys, "\ny\n", "06/01", "--language", "zh")
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert f"{tomorrow:%Y-%m-%d}" in interview(monkeypatch, capsys, "", "06/01")
    assert "因为" in interview(monkeypatch, capsys, "\nn\n", "06/01", "--all", "--language", "zh")


def test_programs_read_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    printed = interview(monkeypatch, capsys, "\ny\n", "--questions", "1", "--json")
    assert json.loads(printed) == {"asked": 1, "right": 1, "due": 3}


def test_bad_input_is_told() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        cli.main(["interview", "--questions", "0"])
    with pytest.raises(UserError, match="no interview questions"):
        cli.main(["interview", "06/02"])


def test_the_document_is_rendered_and_checked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="lesson render"):
        cli.main(["render", "--check"])
    assert cli.main(["render"]) == 0
    text = interview_document().read_text(encoding="utf-8")
    assert text == render(interview_questions(catalogue.all_lessons()))
    assert text.index("## 5 ·") < text.index("#### Why 3?") < text.index("## 6 ·") < text.index("```py\nprint(4)")
    assert cli.main(["render", "--check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["questions"] == 4


def test_the_committed_document_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    text = render(interview_questions(catalogue.all_lessons()))
    assert interview_document().read_text(encoding="utf-8") == text, "type `uv run lesson render`"
