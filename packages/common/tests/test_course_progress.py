"""What a learner has done is kept: through upgrades, a kill and two shells at once."""

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dlcommon.course import progress
from dlcommon.runtime.errors import UserError
from filelock import FileLock

RESNET, LSTM = "05-cnn/07-resnet", "06-rnn/04-lstm"


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DL_PROGRESS_DIR", str(tmp_path / "progress"))
    return progress.progress_file()


def test_passed_is_more_than_run_and_stays() -> None:
    progress.record_run(RESNET, seconds=1.234, checks=5)
    assert progress.read_progress()[RESNET].state == "run"
    progress.record_pass(RESNET)
    first = progress.read_progress()[RESNET].passed_at
    progress.record_run(RESNET, seconds=2.0, checks=6)
    progress.record_pass(RESNET)
    entry = progress.read_progress()[RESNET]
    assert (entry.state, entry.passed_at, entry.seconds, entry.checks) == ("passed", first, 2.0, 6)


def test_the_first_format_becomes_run_also_where_an_older_checkout_writes_it_again(path: Path) -> None:
    old = {"passed_at": "2026-01-02T03:04:05+00:00", "seconds": 8.5, "checks": 7}
    path.parent.mkdir()
    path.write_text(json.dumps({RESNET: old}))
    assert progress.read_progress()[RESNET].state == "run"
    progress.record_pass(LSTM)
    content = json.loads(path.read_text())
    assert content["lessons"][RESNET] == {"run_at": "2026-01-02T03:04:05Z", "seconds": 8.5, "checks": 7}
    path.write_text(json.dumps({**content, LSTM: old, RESNET: {**old, "passed_at": "2025-01-01T00:00:00+00:00"}}))
    lessons = progress.read_progress()
    assert lessons[LSTM].state == "passed"
    assert lessons[LSTM].run_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert lessons[RESNET].run_at == lessons[LSTM].run_at, "the later run is kept"


def test_what_a_newer_version_added_is_carried_along(path: Path) -> None:
    progress.record_pass(RESNET)
    content = json.loads(path.read_text())
    content["badges"] = {"early": True}
    content["lessons"][RESNET]["mood"] = "good"
    path.write_text(json.dumps(content))
    progress.record_reading(("cs231n",))
    kept = json.loads(path.read_text())
    assert (kept["badges"], kept["lessons"][RESNET]["mood"]) == ({"early": True}, "good")


def test_questions_answered_right_come_back_later_and_later_and_wrong_ones_at_once() -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    dates = [progress.record_interview("why-sqrt-d", right=True) for _ in range(len(progress.DAYS) + 2)]
    assert dates[0] >= before + timedelta(days=progress.DAYS[1])
    days = [(date - before).days for date in dates]
    assert days == [*progress.DAYS[1:], 90, 90, 90]
    progress.record_interview("why-sqrt-d", right=False)
    answer = progress.load().interview["why-sqrt-d"]
    assert answer.due == answer.answered_at
    assert (answer.streak, answer.right, answer.wrong) == (0, len(dates), 1)
    assert progress.record_interview("why-sqrt-d", right=True) <= datetime.now(UTC) + timedelta(days=progress.DAYS[1])


def test_the_last_answer_to_a_quiz_counts() -> None:
    progress.record_quiz(LSTM, "forget-gate", 0.3, right=False)
    progress.record_quiz(LSTM, "forget-gate", "b", right=True)
    answers = progress.load().quiz[LSTM]
    assert [(answer.answer, answer.right) for answer in answers.values()] == [("b", True)]


def test_reading_is_ticked_off_and_back() -> None:
    progress.record_reading(("d2l", "cs231n"))
    ticked = progress.load().reading["d2l"]
    progress.record_reading(("d2l",), unread=("cs231n", "lora"))
    assert progress.load().reading == {"d2l": ticked}


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("[1, 2", ""),
        ("[1, 2]", ""),
        ('{"lessons": 3}', ""),
        ('{"lessons": {"05-cnn/07-resnet": {"passed_at": "long ago"}}}', r"lessons → 05-cnn/07-resnet → passed_at"),
        ('{"05-cnn/07-resnet": {"seconds": 3}}', ""),
        ('{"05-cnn/07-resnet": 3}', ""),
    ],
)
def test_a_damaged_file_is_named_and_left_alone(content: str, where: str, path: Path) -> None:
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(UserError, match=rf"progress\.json is damaged.*{where}"):
        progress.read_progress()
    with pytest.raises(UserError, match=r"progress\.json is damaged"):
        progress.record_pass(RESNET)
    assert path.read_text() == content


def shell(source: str) -> subprocess.Popen[bytes]:
    """Another process with the same progress file."""
    return subprocess.Popen([sys.executable, "-c", "from dlcommon.course import progress\n" + source])


def test_shells_at_once_lose_nothing() -> None:
    source = "for number in range(20): progress.record_run(f'shell-{}/{{number}}', seconds=1.0, checks=1)"
    shells = [shell(source.format(name)) for name in ("a", "b", "c")]
    assert [process.wait(600) for process in shells] == [0, 0, 0]
    assert len(progress.read_progress()) == 60


def test_a_killed_process_leaves_all_as_it_was_and_no_lock() -> None:
    progress.record_pass(RESNET)
    source = """
import os, signal
with progress._changing() as changed:
    changed.lessons.clear()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert shell(source).wait(600) == -signal.SIGKILL
    progress.record_pass(LSTM)
    assert set(progress.read_progress()) == {RESNET, LSTM}


def test_a_lock_that_is_never_given_back_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOCK_SECONDS", 0.05)
    path.parent.mkdir()
    with FileLock(path.with_suffix(".lock")), pytest.raises(UserError, match="another process"):
        progress.record_pass(RESNET)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DL_PROGRESS_DIR", str(tmp_path / "file" / "progress"))
    with pytest.raises(UserError, match="choose another folder"):
        progress.record_pass(RESNET)
