"""The powers around a training loop, in this process."""

import itertools
import json
import shutil
from collections.abc import Iterator

import pytest
import torch
from dlcommon.runtime.batches import TensorBatches
from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.metrics_log import read_metrics
from dlcommon.runtime.progress import Progress
from dlcommon.runtime.run import RunClock
from dlcommon.runtime.training_run import TrainingRun
from dlcommon.testing.toy_training import X, Y, network, same, start, train, weights
from dlcommon.training.schedules import linear
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

pytestmark = pytest.mark.usefixtures("fresh_runs")


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
    run = start(max_grad_norm=clip)
    train(run)
    same(weights(run), by_hand(12, network(), clip)[-1], 1e-6)
    assert run.facts["steps"] == 12
    assert run.facts["samples"] == 96
    assert run.facts["epochs"] == 2


def test_clipping_takes_the_norm_over_all_optimizers_of_a_step() -> None:
    run, model = start(max_grad_norm=0.5), network()
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
    run = start(batch_size=8, gradient_accumulation_steps=3)
    source, model = TensorBatches(X, Y, batch_size=24, seed=0), network()

    class Thirds:
        """The large batches, each cut in three: the mean of their means is the mean."""

        unit = "samples"

        def length(self, epoch: int) -> int:
            return 6

        def epoch(self, epoch: int, start: int) -> Iterator[tuple[torch.Tensor, ...]]:
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


def test_a_scale_of_the_gradients_is_not_one_of_the_loss_that_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = start()
    train(plain)
    given: list[float] = []
    shown: list[float] = []
    monkeypatch.setattr(Progress, "losses", lambda self, step, losses, throughput, unit: shown.append(losses["loss"]))
    run, model = start(), network()
    with run:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
        model, optimizer = run.prepare(model, optimizer)
        for x, y in run.steps(run.batches(X, Y)):
            with run.forward(model):
                loss = F.cross_entropy(model(x), y) / 3
            run.update(loss, optimizer, schedule=linear(0.2), gradient_scale=3)
            given.append(loss.item())
        run.finish(model)
    same(weights(run), weights(plain), 1e-6)
    assert set(shown) == set(given)  # the last is looked at again at the end


def test_the_average_is_what_is_saved() -> None:
    run = start(ema_decay=0.6)
    model = train(run)
    average = network().state_dict()
    for step, state in enumerate(by_hand(12, network()), start=1):
        decay = min(0.6, (1 + step) / (10 + step))
        average = {name: decay * average[name] + (1 - decay) * state[name] for name in state}
    same(weights(run), average, 1e-6)
    same(dict(run.ema_model(model).state_dict()), average, 1e-6)
    assert (average["0.weight"] - model.state_dict()["0.weight"]).abs().max() > 1e-3


def test_weights_that_two_layers_share_are_saved_once() -> None:
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 3))
    model[2].weight = model[0].weight
    run = start(epochs=1, ema_decay=0.5)
    train(run, model)
    stored = weights(run)
    assert torch.equal(stored["0.weight"], stored["2.weight"])
    assert "2.weight" not in load_file(run.directory / "model.safetensors")
    assert not torch.equal(stored["0.bias"], stored["2.bias"])


def test_early_stopping_keeps_the_best_weights() -> None:
    accuracies = iter([0.1, 0.5, 0.4, 0.3, 0.9])
    states = []

    def each(run: TrainingRun[TrainConfig], _: torch.Tensor) -> None:
        if run.should_evaluate:
            states.append({name: value.clone() for name, value in run.state.models[0].module.state_dict().items()})
            run.log_evaluation(maximize="accuracy", accuracy=next(accuracies))

    run = start(epochs=10, patience=2)
    train(run, each=each)
    assert run.step == 4 * 6
    same(weights(run), states[1])
    assert next(accuracies) == 0.9


def test_early_stopping_is_final_also_when_it_is_resumed() -> None:
    def each(run: TrainingRun[TrainConfig], _: torch.Tensor) -> None:
        if run.should_evaluate:
            run.log_evaluation(minimize="loss", loss=1.0)

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
        seen.append((run.progress, run.should_evaluate))

    monkeypatch.setattr(RunClock, "seconds", property(lambda self: clock["seconds"]))
    run = start(epochs=1000, max_minutes=0.5, evaluate_every=1000)
    train(run, each=each)
    assert run.step == 11, "the batch that begins when the time is over is the last, and is evaluated"
    assert run.progress == 1.0
    assert [progress for progress, _ in seen] == pytest.approx([*((i + 1) / 10 for i in range(10)), 1.0])
    assert [due for _, due in seen] == [False] * 10 + [True]


def test_the_log_tells_samples_epochs_and_seconds() -> None:
    run = start(evaluate_every=0.5)

    def each(run: TrainingRun[TrainConfig], loss: torch.Tensor) -> None:
        run.flops += 10
        if run.should_evaluate:
            run.log_evaluation(minimize="loss", loss=loss.item())

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
    assert list(compiled.unwrap_model(model).state_dict()) == list(network().state_dict())
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
