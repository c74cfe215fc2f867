"""The powers around a training loop, in this process."""

import itertools
import json
import math
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from dlcommon.runtime import checkpoint
from dlcommon.runtime.batches import TensorBatches
from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.metrics_log import read_metrics
from dlcommon.runtime.run import Interrupted
from dlcommon.runtime.training_run import TrainingRun
from dlcommon.training.schedules import linear
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

GENERATOR = torch.Generator().manual_seed(1)
X = torch.randn(48, 6, generator=GENERATOR)
Y = torch.randint(3, (48,), generator=GENERATOR)


class ToyData:
    name = "toy"


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of runs of the test's own; accelerate's process-wide state as in a new process."""
    monkeypatch.setenv("DL_RUNS_DIR", str(tmp_path / "runs"))
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    PartialState._reset_state()


def start(directory: Path | None = None, **options: Any) -> TrainingRun[TrainConfig]:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    defaults = {"batch_size": 8, "epochs": 2, "device": "cpu", "precision": "fp32"}
    data: Any = ToyData()
    return TrainingRun.start("toy-capstone", TrainConfig(**{**defaults, **options}), data, directory)


def network(dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 3))


def train(
    run: TrainingRun[TrainConfig],
    model: nn.Module | None = None,
    each: Callable[[TrainingRun[TrainConfig], torch.Tensor], None] = lambda run, loss: None,
    lr: float = 0.5,
) -> nn.Module:
    """A plain loop; `each` is called in every step."""
    model = network() if model is None else model
    with run:
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        model, optimizer = run.prepare(model, optimizer)
        for x, y in run.steps(run.batches(X, Y)):
            with run.forward(model):
                loss = F.cross_entropy(model(x).float(), y)
            run.update(loss, optimizer, schedule=linear(0.2))
            each(run, loss)
        run.finish(model)
    return model


def weights(run: TrainingRun[TrainConfig]) -> dict[str, torch.Tensor]:
    return load_file(run.directory / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float = 0.0) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


def by_hand(steps: int, model: nn.Module, clip: float | None = None) -> list[dict[str, torch.Tensor]]:
    """The same training written out; the weights after each step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    batches, states = TensorBatches(X, Y, batch_size=8, seed=0), []
    for step in range(steps):
        (x, y), *_ = batches.epoch(step // 6, step % 6)
        F.cross_entropy(model(x), y).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.param_groups[0]["lr"] = 0.5 * linear(0.2)(step / steps)
        optimizer.step()
        optimizer.zero_grad()
        states.append({name: value.clone() for name, value in model.state_dict().items()})
    return states


@pytest.mark.parametrize("clip", [None, 0.1])
def test_a_run_trains_as_the_loop_written_out_does(clip: float | None) -> None:
    run = start(clip_norm=clip)
    train(run)
    same(weights(run), by_hand(12, network(), clip)[-1], 1e-6)
    assert run.facts["steps"] == 12
    assert run.facts["samples"] == 96
    assert run.facts["epochs"] == 2


def test_clipping_takes_the_norm_over_all_optimizers_of_a_step() -> None:
    run, model = start(clip_norm=0.5), network()
    first, last = (torch.optim.SGD(model[i].parameters(), lr=1.0) for i in (0, 3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    with run:
        run.apply(first, last)
    moved = torch.cat([(before[name] - value).flatten() for name, value in model.state_dict().items()])
    assert moved.norm().item() == pytest.approx(0.5, rel=1e-4)
    assert moved.min().item() == pytest.approx(moved.max().item(), rel=1e-4)


def test_accumulated_batches_equal_one_large_one() -> None:
    large = start(batch_size=24)
    train(large)
    run = start(batch_size=8, accumulate=3)
    source, model = TensorBatches(X, Y, batch_size=24, seed=0), network()

    class Thirds:
        """The large batches, each cut in three: the mean of their means is the mean."""

        def __len__(self) -> int:
            return 6

        def epoch(self, epoch: int, start: int):
            thirds = [zip(x.chunk(3), y.chunk(3), strict=True) for x, y in source.epoch(epoch)]
            return itertools.islice(itertools.chain(*thirds), start, None)

    with run:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
        model, optimizer = run.prepare(model, optimizer)
        rates = linear(0.2)
        for x, y in run.steps(Thirds()):
            with run.forward(model):
                loss = F.cross_entropy(model(x), y)
            # A large batch's rate is that of its first third.
            run.update(loss, optimizer, schedule=lambda _: rates((run.step // 3) / 4))
        run.finish(model)
    same(weights(run), weights(large), 1e-6)


def test_the_average_is_what_is_saved() -> None:
    run = start(ema_decay=0.6)
    model = train(run)
    average = network().state_dict()
    for step, state in enumerate(by_hand(12, network()), start=1):
        decay = min(0.6, (1 + step) / (10 + step))
        average = {name: decay * average[name] + (1 - decay) * state[name] for name in state}
    same(weights(run), average, 1e-6)
    same(dict(run.averaged(model).state_dict()), average, 1e-6)
    assert (average["0.weight"] - model.state_dict()["0.weight"]).abs().max() > 1e-3


def test_weights_that_two_layers_share_are_saved() -> None:
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 3))
    model[2].weight = model[0].weight
    run = start(epochs=1, ema_decay=0.5)
    train(run, model)
    stored = weights(run)
    assert torch.equal(stored["0.weight"], stored["2.weight"])
    assert not torch.equal(stored["0.bias"], stored["2.bias"])


def test_early_stopping_keeps_the_best_weights() -> None:
    accuracies = iter([0.1, 0.5, 0.4, 0.3, 0.9])
    states = []

    def each(run: TrainingRun[TrainConfig], _: torch.Tensor) -> None:
        if run.due_evaluation:
            states.append(
                {name: value.clone() for name, value in run.unwrapped(run.state.models[0]).state_dict().items()}
            )
            run.evaluated(maximize="accuracy", accuracy=next(accuracies))

    run = start(epochs=10, patience=2)
    train(run, each=each)
    assert run.step == 4 * 6
    same(weights(run), states[1])
    assert next(accuracies) == 0.9


def test_early_stopping_is_final_also_when_it_is_resumed() -> None:
    def each(run: TrainingRun[TrainConfig], _: torch.Tensor) -> None:
        if run.due_evaluation:
            run.evaluated(minimize="loss", loss=1.0)

    run = start(epochs=10, patience=2)
    train(run, each=each)
    assert run.step == 3 * 6
    again = start(run.directory, epochs=10, patience=2)
    train(again, each=each)
    assert again.step == run.step
    same(weights(again), weights(run))


def test_the_minutes_end_training_and_its_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, clock = [], {"seconds": 0.0}

    def each(run: TrainingRun[TrainConfig], _: torch.Tensor) -> None:
        clock["seconds"] += 3.0
        seen.append((run.progress, run.due_evaluation))

    monkeypatch.setattr(TrainingRun, "seconds", property(lambda self: clock["seconds"]))
    run = start(epochs=1000, max_minutes=0.5, evaluate_every=1000)
    train(run, each=each)
    assert run.step == 10
    assert run.progress == 1.0
    assert [progress for progress, _ in seen] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert [due for _, due in seen] == [False] * 9 + [True]


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
                run.unwrapped(run.state.models[0])[0].weight.fill_(math.inf)

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
    options: dict[str, Any] = {"ema_decay": 0.5, "accumulate": accumulate, "checkpoint_minutes": 60}
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


def test_the_log_tells_samples_epochs_and_seconds() -> None:
    run = start(evaluate_every=0.5)

    def each(run: TrainingRun[TrainConfig], loss: torch.Tensor) -> None:
        run.flops += 10
        if run.due_evaluation:
            run.evaluated(minimize="loss", loss=loss.item())

    train(run, each=each)
    rows = read_metrics(run.directory / "metrics.jsonl")
    assert [row["step"] for row in rows] == [3, 6, 9, 12]
    assert [row["epoch"] for row in rows] == [0.5, 1.0, 1.5, 2.0]
    assert [row["samples"] for row in rows] == [24, 48, 72, 96]
    assert [row["flops"] for row in rows] == [30, 60, 90, 120]
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)
    assert json.loads((run.directory / "config.json").read_text())["data"] == "toy"


def test_bf16_computes_in_bf16_and_keeps_the_weights_whole() -> None:
    dtypes = set()
    model = network()
    model.register_forward_hook(lambda module, args, output: dtypes.add(output.dtype))
    run = start(epochs=1, precision="bf16")
    train(run, model)
    assert dtypes == {torch.bfloat16}
    assert {value.dtype for value in weights(run).values()} == {torch.float32}
    assert run.facts["precision"] == "bf16"


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from the compiler's own imports
def test_compiled_networks_keep_their_names_and_results() -> None:
    plain = start(epochs=1)
    train(plain)
    torch._dynamo.reset()
    compiled = start(epochs=1, compile=True)
    model = train(compiled)
    assert torch._dynamo.utils.counters["frames"]["ok"] >= 1
    assert list(weights(compiled)) == list(weights(plain))
    assert list(compiled.unwrapped(model).state_dict()) == list(network().state_dict())
    same(weights(compiled), weights(plain), 1e-5)


def test_trackers_are_written_to() -> None:
    run = start(trackers=("tensorboard",))
    train(run, each=lambda run, loss: run.log(loss=loss.item()))
    events = list(run.directory.rglob("events.out.tfevents.*"))
    assert events
    assert sum(path.stat().st_size for path in events) > 200


@pytest.mark.filterwarnings("ignore:.*no supported trackers")
def test_a_tracker_that_is_not_installed_is_named() -> None:
    with pytest.raises(UserError, match="mlflow is not installed"):
        start(trackers=("mlflow",))


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED"])
def test_a_way_of_splitting_that_is_not_ours_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{kind}", "true")  # as `accelerate launch` sets it
    with pytest.raises(UsageError, match=f"{kind}; launch it without, and give `train --shard`"):
        start()


def test_impossible_batches_are_the_users_to_put_right() -> None:
    run = start(batch_size=49)
    with run, pytest.raises(UserError, match="more than the 48"):
        run.batches(X, Y)


def test_signals_are_handled_as_before_once_a_run_ends() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    train(start(epochs=1))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
