"""A training that torchrun starts again finds the run that it began, and no other."""

import json
from pathlib import Path

import pytest
from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.elastic import launch_origin, run_to_continue
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.run_directory import create_run_directory
from dlcommon.runtime.training_run import TrainingRun
from dlcommon.testing.toy_training import ToyData, reset_accelerate, start, train

ORIGIN = {"command": "toy train --epochs 3"}


def begin(**origin: str) -> Path:
    directory = create_run_directory("toy", "sample")
    (directory / "origin.json").write_text(json.dumps({**ORIGIN, **origin}))
    (directory / "config.json").write_text("{}")
    return directory


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DL_RUNS_DIR", str(tmp_path))
    for name in ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)


def test_without_torchrun_nothing_is_continued() -> None:
    begin()
    assert run_to_continue("toy", ORIGIN, restarted=False) is None
    assert launch_origin() == {}


def test_a_restart_continues_the_newest_unfinished_run_of_the_same_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # torchrun's default
    begin()
    newest = begin()
    begin(command="toy train --epochs 4")
    for damage in ("{", "[]"):  # of runs that are nobody's business here
        (begin() / "origin.json").write_text(damage)
    (begin() / "summary.json").write_text("{}")
    assert run_to_continue("toy", ORIGIN, restarted=True) == newest
    assert run_to_continue("toy", ORIGIN, restarted=False) is None


def test_a_launch_continues_its_own_run_by_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    own = begin(launch="job-17")
    begin(launch="job-18")
    begin()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-17")
    assert run_to_continue("toy", ORIGIN, restarted=False) == own
    assert launch_origin() == {"launch": "job-17"}
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-19")
    assert run_to_continue("toy", ORIGIN, restarted=True) is None


def test_a_machine_that_does_not_see_the_run_says_what_to_do(tmp_path: Path) -> None:
    reset_accelerate()
    config = TrainConfig(batch_size=8, epochs=1, device="cpu", precision="fp32")
    data = ToyData()
    with pytest.raises(UserError, match=r"does not see .*gone.* DL_RUNS_DIR"):
        TrainingRun.start("toy", config, data, tmp_path / "gone")  # type: ignore[arg-type]
    reset_accelerate()


def test_processes_that_see_different_checkpoints_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    directory = start(checkpoint_minutes=0, epochs=1).directory
    train(start(directory, checkpoint_minutes=0, epochs=1))
    resumed = start(directory, checkpoint_minutes=0, epochs=1)
    monkeypatch.setattr(resumed.compute, "of_all", lambda name: [name, "step-00000003"])
    with pytest.raises(UserError, match=r"different checkpoints .*: step-\d+, step-00000003; put the runs"):
        train(resumed)
