"""What a run is resumed with: the same data, the same options, by one process at a time."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest
from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.commands import train as command
from dlcommon.runtime.config import RunConfig
from dlcommon.runtime.data import DATA_SETS
from dlcommon.runtime.elastic import run_to_continue
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.evaluation.chance import chance_remark
from dlcommon.runtime.evaluation.classification import evaluate_classifier
from dlcommon.runtime.run import Run
from dlcommon.runtime.run_directory import list_runs
from dlcommon.runtime.run_lock import is_locked
from dlcommon.runtime.stop_signal import Interrupted
from dlcommon.runtime.training_run import TrainingRun
from dlcommon.testing.toy_colours.config import Config
from dlcommon.testing.toy_colours.runs import data_set
from dlcommon.testing.toy_training import ToyData, network, reset_accelerate, start, train

pytestmark = pytest.mark.usefixtures("fresh_runs")

FLAGS = ("--data", "colours", "--width", "4", "--batch-size", "20", "--device", "cpu", "--precision", "fp32")


@pytest.fixture
def unfinished(toy: Capstone[Config]) -> Path:
    """A run of the toy that has begun: as one that was killed before its first checkpoint."""
    assert toy.name == "toy"
    assert begin(toy, *FLAGS) == 143
    (directory,) = list_runs("toy")
    return directory


def begin(toy: Capstone[Config], *flags: str) -> int:
    """Starts the toy's training, which gets SIGTERM at its first step."""
    reset_accelerate()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingRun, "update", lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGTERM))
        return command.main(toy, list(flags))


def resume(toy: Capstone[Config], *flags: str) -> int:
    reset_accelerate()
    return command.main(toy, ["--resume", *flags])


# -- the data


def test_other_data_under_the_same_name_are_refused_and_the_first_ones_resumed(
    unfinished: Path, toy: Capstone[Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = DATA_SETS["colours"]
    monkeypatch.setitem(DATA_SETS, "colours", data_set("colours", ("red", "green", "blue", "and more")))
    with pytest.raises(UserError, match=r"the data of this run have changed .*colours has the fingerprint .* Put the"):
        resume(toy)
    monkeypatch.setitem(DATA_SETS, "colours", before)
    assert resume(toy) == 0
    summary = json.loads((unfinished / "summary.json").read_text())
    assert summary["data"]["fingerprint"] == json.loads((unfinished / "origin.json").read_text())["data"]["fingerprint"]


def changed_data(fingerprint: str = "1" * 64) -> Any:
    class Changed(ToyData):
        def fingerprint(self) -> str:
            return fingerprint

    return Changed()


def test_work_in_pieces_is_held_to_its_data_as_well() -> None:
    data: Any = ToyData()
    run = Run.start("toy-capstone", RunConfig(), data)
    with pytest.raises(UserError, match=r"has the fingerprint 111111111111…, not 000000000000…"):
        Run.start("toy-capstone", RunConfig(), changed_data(), run.directory)
    Run.start("toy-capstone", RunConfig(), data, run.directory)


def test_a_run_of_an_earlier_version_is_resumed_and_says_what_is_not_compared(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = start(epochs=1)
    (run.directory / "origin.json").write_text('{"preset": "default", "command": "toy train"}')
    train(start(run.directory, epochs=1))
    assert "recorded no fingerprint of its data" in capsys.readouterr().out


def test_data_that_change_while_a_run_trains_are_noticed_before_its_summary(
    toy: Capstone[Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    def changing(self: Capstone[Config], run: Any) -> None:
        train_room(run)
        monkeypatch.setitem(DATA_SETS, "colours", data_set("colours", ("red", "green", "blue", "and more")))
        object.__setattr__(run.data, "dataset", DATA_SETS["colours"])

    train_room = toy._function("train", "train")
    monkeypatch.setattr(Capstone, "train", changing)
    reset_accelerate()
    with pytest.raises(UserError, match="the data of this run have changed"):
        command.main(toy, [*FLAGS, "--epochs", "1"])
    (directory,) = list_runs("toy")
    assert (directory / "model.safetensors").is_file()
    assert not (directory / "summary.json").exists()


# -- flags


def test_flags_that_differ_from_the_runs_are_refused_by_name(unfinished: Path, toy: Capstone[Config]) -> None:
    with pytest.raises(UsageError) as refused:
        resume(toy, *FLAGS, "--epochs", "8", "--seed=99", "--batch_size", "30")
    text = str(refused.value)
    for expected in ("--epochs 8.0 (the run has --epochs 10.0)", "--seed 99 (the run has --seed 0)", "--batch-size 30"):
        assert expected in text
    assert "--width" not in text
    assert str(unfinished) in text


def test_flags_that_repeat_the_runs_are_taken(unfinished: Path, toy: Capstone[Config]) -> None:
    assert resume(toy, *FLAGS, "--epochs", "10", "--run", str(unfinished)) == 0
    with pytest.raises(UserError, match="has finished"):
        resume(toy, "--run", str(unfinished))


# -- the lock

HOLDER = """
import sys, time
from pathlib import Path
from dlcommon.runtime.run_lock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.acquire()
print("ready", flush=True)
time.sleep(600)
"""


@contextmanager
def held_by_another_process(directory: Path) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(directory)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_run_that_another_process_trains_is_left_alone_until_that_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    run = start(epochs=1)
    run.lock.release()
    origin = json.loads((run.directory / "origin.json").read_text())
    with held_by_another_process(run.directory) as process:
        refusal = f"is being trained already: wait for process {process.pid}, which has it, or stop it first"
        with pytest.raises(UserError, match=refusal):
            start(run.directory, epochs=1)
        assert is_locked(run.directory)
        assert run_to_continue("toy-capstone", origin, restarted=True) is None
        # As on a file system that keeps no locks: what another process holds is not seen.
        (run.directory / "run.lock").unlink()
        with pytest.raises(UserError, match=refusal):
            start(run.directory, epochs=1)
        process.kill()  # SIGKILL: nothing is tidied up
        process.wait()
    assert (run.directory / "owner.json").is_file()
    assert not is_locked(run.directory)
    assert run_to_continue("toy-capstone", origin, restarted=True) == run.directory
    resumed = start(run.directory, epochs=1)
    train(resumed)
    resumed.lock.release()
    assert not (run.directory / "owner.json").exists()


def test_a_training_holds_its_run_and_lets_go_of_it(toy: Capstone[Config], monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[bool] = []
    program = "import sys; from pathlib import Path; from dlcommon.runtime.run_lock import is_locked; "
    program += "sys.exit(is_locked(Path(sys.argv[1])))"

    def look(directory: Path) -> bool:
        return subprocess.run([sys.executable, "-c", program, str(directory)]).returncode == 1

    def look_and_fail(self: Capstone[Config], run: TrainingRun[Config]) -> None:
        found.append(look(run.directory))
        raise ZeroDivisionError

    monkeypatch.setattr(Capstone, "train", look_and_fail)
    reset_accelerate()
    with pytest.raises(ZeroDivisionError):
        command.main(toy, list(FLAGS))
    (directory,) = list_runs("toy")
    assert found == [True]
    assert not look(directory)


@pytest.mark.parametrize("note", ["{", "[]", '{"process": 1}'])
def test_a_damaged_note_is_in_nobodys_way(note: str) -> None:
    run = start(epochs=1)
    run.lock.release()
    (run.directory / "owner.json").write_text(note)
    train(start(run.directory, epochs=1))


def test_a_process_of_another_machine_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    run = start(epochs=1)
    run.lock.release()
    (run.directory / "owner.json").write_text('{"process": 1, "host": "elsewhere", "started": 0}')
    start(run.directory, epochs=1)
    assert "was last trained by process 1 on elsewhere" in capsys.readouterr().err


def test_a_file_system_that_keeps_no_locks_keeps_nobody_from_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*args: object, **options: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", no_locks)
    run = start(epochs=1)
    assert not is_locked(run.directory)
    run.lock.release()
    with held_by_another_process(run.directory) as process:
        (run.directory / "run.lock").touch()
        assert is_locked(run.directory)
        with pytest.raises(UserError, match=f"wait for process {process.pid}"):
            start(run.directory, epochs=1)
    train(start(run.directory, epochs=1))


# -- budgets


def test_set_up_is_no_part_of_the_minutes() -> None:
    def interrupt(run: TrainingRun[Any], _: Any) -> None:
        if run.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    run = start(max_minutes=5)
    run.clock.continue_from(1000.0, 0.0)  # of loading data, say
    with pytest.raises(Interrupted):
        train(run, network(), interrupt)
    resumed = start(run.directory, max_minutes=5)
    train(resumed)
    assert resumed.step == 12
    assert resumed.clock.training_seconds < 300 < 1000 <= resumed.seconds


def test_a_budget_without_a_step_is_refused_and_leaves_no_run(toy: Capstone[Config]) -> None:
    reset_accelerate()
    with pytest.raises(UserError, match="--max-minutes 1e-09 allows not even one step; give it more"):
        command.main(toy, [*FLAGS, "--max-minutes", "1e-9"])
    assert list_runs("toy") == []


def test_a_classifier_that_is_no_better_than_its_most_frequent_class_is_told() -> None:
    labels = np.array([0] * 60 + [1] * 40)

    def remark(right: int) -> str | None:
        predicted = np.where(np.arange(100) % 100 < right, labels, 1 - labels)
        return chance_remark(evaluate_classifier(np.eye(2)[predicted].clip(0.01, 0.99), labels, ("cat", "dog")))

    assert "0.6000 of always answering 'cat'" in str(remark(60))
    assert remark(65) is not None, "within the interval"
    assert remark(90) is None
