"""Two processes (gloo, on the CPU) train what one process trains, also when they are killed.

Copied: each holds the models (DDP). Sharded: each holds a part of them (FSDP).
"""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from dlcommon.runtime import checkpoint
from dlcommon.runtime.stored_weights import read_weights
from dlcommon.testing.ranks import Ended, run_ranks
from dlcommon.testing.toy_loops import LOOPS, Stop, rank_main, run_loop, unwrap_on_the_first_rank
from dlcommon.testing.toy_training import reset_accelerate
from safetensors.torch import load_file

OPTIONS: dict[str, Any] = {"gradient_accumulation_steps": 2, "max_grad_norm": 0.5}
HELD = {"classifier": (6 * 8 + 8) + (8 * 3 + 3), "gan": 65 + 94, "adapter": 2100 + 1200 + 4 + 15, "tokens": 72 + 81}
"""Weights of each toy's models; a sharded process holds about half of them."""


def only_run(runs: Path) -> Path:
    (directory,) = (runs / "toy-capstone").iterdir()
    return directory


def train(
    runs: Path, kind: str, shard: bool, directory: Path | None = None, stop: Stop | None = None, dropout: float = 0.0
) -> list[Ended]:
    """Trains in two processes, whose runs go into the folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DL_RUNS_DIR", str(runs))
        return run_ranks(rank_main, kind, directory, stop, dropout, {**OPTIONS, "shard": shard})


def check_codes(ended: list[Ended], code: int) -> None:
    assert [each.code for each in ended] == [code, code], "\n".join(each.printed[-3000:] for each in ended)


def final(directory: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The saved weights, and the last checkpoint's tensors (optimizers, average) but the random states."""
    state = load_file(checkpoint.list_checkpoints(directory / "checkpoints")[-1] / checkpoint.STATE)
    tensors = {name: value for name, value in state.items() if not name.startswith("/random")}
    return read_weights(directory / "model.safetensors"), tensors


def same(one: Path, other: Path, tolerance: float) -> None:
    for ours, expected in zip(final(one), final(other), strict=True):
        torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module", params=LOOPS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=[False, True], ids=["copied", "sharded"])
def shard(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def one(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DL_RUNS_DIR", str(tmp_path_factory.mktemp("one")))
        directory = run_loop(kind, **OPTIONS).directory
    reset_accelerate()
    return directory


@pytest.fixture(scope="module")
def two(kind: str, shard: bool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two processes that nobody interrupted."""
    runs = tmp_path_factory.mktemp("two")
    check_codes(train(runs, kind, shard), 0)
    return only_run(runs)


def test_two_processes_train_what_one_does(kind: str, shard: bool, one: Path, two: Path) -> None:
    same(two, one, 1e-5)
    held = [int((two / f"held-by-{rank}-of-2").read_text()) for rank in (0, 1)]
    if shard:
        assert sum(held) == HELD[kind]
        assert max(held) < 0.7 * HELD[kind]
    else:
        assert held == [HELD[kind]] * 2
    logs = [directory / "metrics.jsonl" for directory in (two, one)]
    rows = [log.read_text().count("\n") if log.is_file() else 0 for log in logs]
    assert rows[0] == rows[1], "each evaluation is logged once"


def test_two_processes_that_are_killed_resume_bit_for_bit(kind: str, shard: bool, two: Path, tmp_path: Path) -> None:
    check_codes(train(tmp_path, kind, shard, stop=Stop(5, signal.SIGKILL)), -signal.SIGKILL)
    directory = only_run(tmp_path)
    assert not (directory / "model.safetensors").exists()
    check_codes(train(tmp_path, kind, shard, directory), 0)
    same(directory, two, 0.0)


def test_one_process_that_is_killed_resumes_bit_for_bit(kind: str, one: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DL_RUNS_DIR", str(tmp_path))
        (killed,) = run_ranks(rank_main, kind, None, Stop(5, signal.SIGKILL), 0.0, OPTIONS, world_size=1)
        assert killed.code == -signal.SIGKILL, killed.printed
        (resumed,) = run_ranks(rank_main, kind, only_run(tmp_path), None, 0.0, OPTIONS, world_size=1)
        assert resumed.code == 0, resumed.printed
    same(only_run(tmp_path), one, 0.0)


def test_the_dropout_of_two_processes_differs_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    check_codes(train(whole, "classifier", False, dropout=0.3), 0)
    check_codes(train(stopped, "classifier", False, stop=Stop(5, signal.SIGKILL), dropout=0.3), -signal.SIGKILL)
    check_codes(train(stopped, "classifier", False, only_run(stopped), dropout=0.3), 0)
    same(only_run(stopped), only_run(whole), 0.0)
    state = load_file(checkpoint.list_checkpoints(only_run(whole) / "checkpoints")[-1] / checkpoint.STATE)
    first, second = (state[f"/random/{rank}/torch"] for rank in (0, 1))
    assert not torch.equal(first, second)


def test_a_call_that_only_one_process_makes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DL_RUNS_DIR", str(tmp_path))
    for ended in run_ranks(unwrap_on_the_first_rank, True):
        assert ended.code == 1
        assert "called different things: unwrap_model, log_evaluation" in ended.printed
        assert "not below `if run.is_main`" in ended.printed
    assert [ended.code for ended in run_ranks(unwrap_on_the_first_rank, False)] == [0, 0]
