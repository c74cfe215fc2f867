"""Work in pieces: what is kept, what is made again."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from dlcommon.runtime.config import RunConfig
from dlcommon.runtime.metrics_log import read_metrics
from dlcommon.runtime.run import Interrupted, Run


class ToyData:
    name = "toy"


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
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
        found = [run.cached(f"number-{number}", lambda number=number: piece(number)) for number in range(4)]
        run.log(total=float(sum(value["square"] for value in found)))
        run.finish({"model.json": json.dumps(found).encode()}, classes=["a"])
    return found


def test_pieces_come_back_as_json_whether_made_or_kept():
    run, made = start(), []
    first = work(run, made)
    assert first[2] == {"square": 4, "pair": [2, 0.2]}
    again: list[int] = []
    assert work(start(run.directory), again) == first
    assert made == [0, 1, 2, 3]
    assert again == []


def test_a_stop_keeps_the_piece_that_was_being_made_and_no_log_row_twice():
    run, made = start(), []
    with pytest.raises(Interrupted) as stopped:
        work(run, made, stop_at=1)
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    assert made == [0, 1]
    resumed, rest = start(run.directory), []
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
def test_a_damaged_piece_is_made_again_and_said(damage, capsys):
    run = start()
    first = work(run, [])
    (piece,) = run.directory.glob("checkpoints/piece-0002-*.json")
    piece.write_bytes(damage)
    again: list[int] = []
    assert work(start(run.directory), again) == first
    assert again == [1]
    assert "piece-0002-number-1.json is damaged" in capsys.readouterr().out


def test_the_clock_goes_on_where_the_last_piece_ended(monkeypatch):
    run = start()
    work(run, [])
    last = sorted(run.directory.glob("checkpoints/piece-*.json"))[-1]
    kept = json.loads(last.read_text()) | {"seconds": 1000.0}
    last.write_text(json.dumps(kept))
    resumed = start(run.directory)
    work(resumed, [])
    assert 1000 <= resumed.seconds < 1100
