"""Work in pieces: what is kept, what is made again."""

import json
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dlcommon.runtime.config import RunConfig
from dlcommon.runtime.data import ASSETS, Asset, AssetForm
from dlcommon.runtime.errors import DataUnavailableError, UserError
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.metrics_log import read_metrics
from dlcommon.runtime.run import Interrupted, Run
from dlcommon.runtime.saved_run import SavedRun
from dlcommon.testing.toy_training import ToyData
from PIL import Image


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DL_RUNS_DIR", str(tmp_path / "runs"))


def start(directory: Path | None = None) -> Run[RunConfig]:
    data: Any = ToyData()
    return Run.start("toy-capstone", RunConfig(), data, directory)


def work(run: Run[RunConfig], made: list[int], stop_at: int | None = None) -> list[Any]:
    def piece(number: int) -> Any:
        made.append(number)
        if number == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"square": number**2, "pair": (number, 0.1 * number)}

    with run:
        found = [run.cached(f"number-{number}", partial(piece, number)) for number in range(4)]
        run.log(total=float(sum(value["square"] for value in found)))
        run.finish({"model.json": json.dumps(found).encode()}, classes=["a"])
    return found


def test_pieces_come_back_as_json_whether_made_or_kept() -> None:
    run = start()
    made: list[int] = []
    first = work(run, made)
    assert first[2] == {"square": 4, "pair": [2, 0.2]}
    again: list[int] = []
    assert work(start(run.directory), again) == first
    assert made == [0, 1, 2, 3]
    assert again == []


def test_a_stop_keeps_the_piece_that_was_being_made_and_no_log_row_twice() -> None:
    run = start()
    made: list[int] = []
    with pytest.raises(Interrupted) as stopped:
        work(run, made, stop_at=1)
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    assert made == [0, 1]
    resumed = start(run.directory)
    rest: list[int] = []
    work(resumed, rest)
    work(start(run.directory), [])
    assert rest == [2, 3]
    assert [row["total"] for row in read_metrics(run.directory / "metrics.jsonl")] == [14.0]
    assert json.loads((run.directory / "model.json").read_bytes())[3]["square"] == 9
    assert resumed.files == ["model.json"]
    assert resumed.facts["classes"] == ["a"]


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"value": "1"}', b'{"value": "1", "sha256": "0", "seconds": 1}']
)
def test_a_damaged_piece_is_made_again_and_said(damage: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    run = start()
    first = work(run, [])
    (piece,) = run.directory.glob("checkpoints/piece-0002-*.json")
    piece.write_bytes(damage)
    again: list[int] = []
    assert work(start(run.directory), again) == first
    assert again == [1]
    assert "piece-0002-number-1.json is damaged" in capsys.readouterr().out


def test_the_clock_goes_on_where_the_last_piece_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    run = start()
    work(run, [])
    last = sorted(run.directory.glob("checkpoints/piece-*.json"))[-1]
    kept = json.loads(last.read_text()) | {"seconds": 1000.0, "cpu_seconds": 900.0}
    last.write_text(json.dumps(kept))
    resumed = start(run.directory)
    work(resumed, [])
    assert resumed.seconds >= 1000
    assert 15 <= resumed.facts["cpu_minutes"] < 16


# -- a loop of another library, which knows nothing of runs


class ForeignTrainer:
    """Trains epoch by epoch, and saves as it likes."""

    def __init__(self, epochs: int) -> None:
        self.epochs, self.state = epochs, 0

    def fit(self, folder: Path, epoch: int) -> None:
        self.state += epoch
        (folder / "sub").mkdir()
        (folder / "sub" / "weights.bin").write_bytes(bytes([self.state] * 1000))

    def load(self, folder: Path) -> None:
        self.state = (folder / "sub" / "weights.bin").read_bytes()[0]


def foreign(run: Run[RunConfig], fitted: list[int], stop_at: int | None = None) -> None:
    trainer = ForeignTrainer(4)

    def fit(folder: Path, epoch: int) -> None:
        fitted.append(epoch)
        trainer.fit(folder, epoch)
        if epoch == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
            assert run.stop_requested

    with run:
        for epoch in range(4):
            folder = run.cached_files(f"epoch-{epoch}", partial(fit, epoch=epoch))
            trainer.load(folder)
            run.log(epoch=epoch + 1, loss=1.0 / (epoch + 1))
        run.finish({"model.bin": bytes([trainer.state])})


def test_files_of_a_finished_piece_are_kept_and_the_log_and_the_clock_go_on() -> None:
    whole = start()
    made: list[int] = []
    foreign(whole, made)
    run = start()
    before: list[int] = []
    with pytest.raises(Interrupted):
        foreign(run, before, stop_at=2)
    log = run.directory / "metrics.jsonl"
    kept = log.read_text()
    assert kept.count("\n") == 2
    resumed = start(run.directory)
    after: list[int] = []
    foreign(resumed, after)
    assert (before, after) == ([0, 1, 2], [3])
    assert log.read_text().startswith(kept), "rows of the first sitting keep their clock"
    assert [row["epoch"] for row in read_metrics(log)] == [1, 2, 3, 4]
    assert (run.directory / "model.bin").read_bytes() == (whole.directory / "model.bin").read_bytes() == bytes([6])


def test_damaged_files_of_a_piece_are_made_again_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    run = start()
    foreign(run, [])
    (run.directory / "checkpoints" / "piece-0002-epoch-1" / "sub" / "weights.bin").write_bytes(b"")
    again: list[int] = []
    foreign(start(run.directory), again)
    assert again == [1]
    assert "piece-0002-epoch-1 is damaged" in capsys.readouterr().out
    assert len(read_metrics(run.directory / "metrics.jsonl")) == 4


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        OSError(122, "Disk quota exceeded"),
        RuntimeError("[enforce fail at inline_container.cc] PytorchStreamWriter failed: No space left on device"),
        ValueError("Error while serializing: I/O error: (os error 28)"),
    ],
)
def test_a_full_disk_is_said_whoever_meets_it(error: Exception) -> None:
    run = start()
    with pytest.raises(UserError, match=r"cannot write below .*: the disk (is full|quota is used up)"), run:
        raise error
    run = start()
    with pytest.raises(RuntimeError, match="of another kind"), run:
        raise RuntimeError("of another kind")


def test_a_stop_between_pieces_is_public() -> None:
    with start() as run:
        run.raise_if_stopped()
        os.kill(os.getpid(), signal.SIGINT)
        assert run.stop_requested
        with pytest.raises(Interrupted):
            run.raise_if_stopped()


def test_pictures_are_kept() -> None:
    run = start()
    with run:
        path = run.artifact("grid", np.zeros((4, 6), np.uint8))
    with Image.open(path) as image:
        assert image.size == (6, 4)


# -- pretrained assets


def test_an_asset_is_noted_in_the_run_and_another_version_is_refused_when_it_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = dict.fromkeys(("weights.bin",))
    toy = Asset(
        name="toy-weights", title=LocalizedText("Toy", "玩具"), description="", licence="none", home="",
        forms=(AssetForm("raw", files), AssetForm("rounded", files)),
    )  # fmt: skip
    monkeypatch.setitem(ASSETS, "toy-weights", toy)
    monkeypatch.setenv("DL_DATA_DIR", str(tmp_path))
    with pytest.raises(DataUnavailableError, match="toy-weights is not on this machine"):
        start().asset("toy-weights")
    weights = tmp_path / "assets" / "toy-weights" / "rounded" / "weights.bin"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"one")
    run = start()
    located = run.asset("toy-weights")
    assert (located.form.name, located.path) == ("rounded", weights.parent)
    assert run.assets == {"toy-weights": located.record()}
    saved = SavedRun(run.directory, run.config, "toy", {"assets": list(run.assets.values())})
    assert saved.asset("toy-weights") == start(run.directory).asset("toy-weights") == located
    with pytest.raises(UserError, match="was not trained with others"):
        saved.asset("others")
    weights.write_bytes(b"two")
    for resumed in (saved, start(run.directory)):
        with pytest.raises(UserError, match="another version than"):
            resumed.asset("toy-weights")
