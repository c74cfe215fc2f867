"""What ends a training early: signals, losses that are no numbers, full memory; and what it then goes on from."""

import math
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
from dlcommon.runtime import checkpoint
from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.metrics_log import read_metrics
from dlcommon.runtime.stop_signal import Interrupted
from dlcommon.runtime.training_run import TrainingRun
from dlcommon.testing.toy_training import network, same, start, train, weights
from torch import nn

pytestmark = pytest.mark.usefixtures("fresh_runs")


@pytest.mark.parametrize("at", [0, 3, 11])
def test_a_loss_that_is_not_a_number_stops_the_run(at: int) -> None:
    model = network()

    def poison(module: nn.Module, args: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        return output * math.nan if run.step == at else output

    model.register_forward_hook(poison)
    run = start(checkpoint_minutes=0)
    with pytest.raises(UserError, match=f"nan at step {at} .*learning rate"):
        train(run, model)
    found = checkpoint.list_checkpoints(run.directory / "checkpoints")
    assert [path.name for path in found] == [f"step-{step:08d}" for step in range(max(1, at - 1), at + 1)]
    for path in found:
        stored, _ = checkpoint.load(path)
        assert all(value.isfinite().all() for value in stored.values())


def test_memory_that_does_not_suffice_is_said() -> None:
    def each(run: TrainingRun[TrainConfig], _: torch.Tensor) -> None:
        torch.empty(2**55)

    with pytest.raises(UserError, match="out of memory at step 0; try a smaller network"):
        train(start(), each=each)


def test_weights_that_are_not_finite_are_never_stored() -> None:
    """A finite loss, and a step that leaves infinite weights: the checkpoint of that step would be poisoned."""

    def each(run: TrainingRun[TrainConfig], _: torch.Tensor) -> None:
        if run.step == 5:
            with torch.no_grad():
                next(run.state.models[0].module.parameters()).fill_(math.inf)

    run = start(checkpoint_minutes=0)
    with pytest.raises(UserError, match="weight became"):
        train(run, each=each)
    newest = checkpoint.list_checkpoints(run.directory / "checkpoints")[-1]
    assert newest.name == "step-00000005"
    assert checkpoint.load(newest)[0]["0.0.weight"].isfinite().all()


def interrupted_at(step: int) -> Callable[[TrainingRun[TrainConfig], torch.Tensor], None]:
    def each(run: TrainingRun[TrainConfig], _: torch.Tensor) -> None:
        run.log(loss=run.step)
        if run.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return each


def never(run: TrainingRun[TrainConfig], _: torch.Tensor) -> None:
    run.log(loss=run.step)


@pytest.mark.parametrize("accumulate", [1, 2, 4])
@pytest.mark.parametrize("step", [0, 4, 5, 9])
def test_an_interrupted_run_resumes_to_the_same_bits(step: int, accumulate: int) -> None:
    options: dict[str, Any] = {"ema_decay": 0.5, "gradient_accumulation_steps": accumulate, "checkpoint_minutes": 60}
    whole = start(**options)
    train(whole, network(dropout=0.3), never)
    run = start(**options)
    with pytest.raises(Interrupted) as caught:
        train(run, network(dropout=0.3), interrupted_at(step))
    assert caught.value.exit_code == 128 + signal.SIGTERM
    assert run.step % accumulate == 0, "stopped within an accumulated batch"
    with (run.directory / "metrics.jsonl").open("a") as file:
        file.write('{"step": 999}\n')  # written after the checkpoint, so to be written again
    again = start(run.directory, **options)
    train(again, network(dropout=0.3), never)
    assert weights(again).keys() == weights(whole).keys()
    same(weights(again), weights(whole))
    rows = [read_metrics(each.directory / "metrics.jsonl") for each in (again, whole)]
    for row in [*rows[0], *rows[1]]:
        assert row.pop("seconds") >= 0
    assert rows[0] == rows[1]


def test_a_run_whose_checkpoints_are_all_damaged_starts_again(capsys: pytest.CaptureFixture[str]) -> None:
    run = start(checkpoint_minutes=0)
    train(run, network(dropout=0.3), never)
    expected = weights(run)
    for path in checkpoint.list_checkpoints(run.directory / "checkpoints"):
        (path / "state.json").write_text("{")
    again = start(run.directory, checkpoint_minutes=0)
    train(again, network(dropout=0.3), never)
    said = capsys.readouterr().out
    assert said.count("is damaged and passed over") == 2
    assert "from the beginning" in said
    same(weights(again), expected)
    assert len(read_metrics(run.directory / "metrics.jsonl")) == 12


def test_signals_are_handled_as_before_once_a_run_ends() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    train(start(epochs=1))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
