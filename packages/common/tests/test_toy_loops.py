"""Trainings of two models, of a head on a frozen backbone, and of batches counted in tokens, in this process."""

import itertools
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from dlcommon.runtime import checkpoint
from dlcommon.runtime.bucket_batches import BucketBatches
from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.metrics_log import read_metrics
from dlcommon.runtime.progress import Progress
from dlcommon.runtime.stop_signal import Interrupted
from dlcommon.runtime.training_run import TrainingRun
from dlcommon.testing.toy_loops import LENGTHS, LOOPS, SEQUENCES, Adapted, Stop, run_loop, start
from dlcommon.testing.toy_training import X, Y, reset_accelerate, same, weights
from dlcommon.training.averaging import ExponentialMovingAverage
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

pytestmark = pytest.mark.usefixtures("fresh_runs")


def last_checkpoint(run: TrainingRun[Any]) -> Path:
    return checkpoint.list_checkpoints(run.directory / "checkpoints")[-1]


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("kind", LOOPS)
def test_a_training_that_is_interrupted_resumes_bit_for_bit(kind: str, accumulate: int) -> None:
    options: dict[str, Any] = {"dropout": 0.3, "gradient_accumulation_steps": accumulate}
    whole = run_loop(kind, **options)
    with pytest.raises(Interrupted) as stopped:
        run_loop(kind, each=Stop(4, signal.SIGTERM), **options)
    directory = Path(str(stopped.value).split("(")[1].rstrip(")"))
    resumed = run_loop(kind, directory, **options)
    assert resumed.step == whole.step
    same(weights(resumed), weights(whole))
    for name in (checkpoint.MODEL, checkpoint.STATE):
        same(load_file(last_checkpoint(resumed) / name), load_file(last_checkpoint(whole) / name))


# -- two models


def gan_by_hand(steps: int, accumulate: int = 1) -> tuple[nn.Module, nn.Module]:
    """The toy GAN's training written out: the discriminator, and the average of the generator."""
    torch.manual_seed(7)
    discriminator = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0), nn.Linear(8, 1))
    generator = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 6))
    d_adam, g_adam = (torch.optim.Adam(net.parameters(), lr=0.01) for net in (discriminator, generator))
    average = ExponentialMovingAverage(generator, 0.5)
    run = start()
    batches, counters = run.batches(X, Y), run.state.counters
    for step in range(steps):
        counters.epoch, counters.batch = divmod(step, 6)
        real, _ = next(batches.epoch(counters.epoch, counters.batch))
        noise = torch.randn(8, 4, generator=run.generator("noise"))
        of_real, of_fake = discriminator(torch.cat([real, generator(noise).detach()])).chunk(2)
        loss = F.softplus(-of_real).mean() + F.softplus(of_fake).mean()
        (loss / accumulate).backward()
        last = (step + 1) % accumulate == 0
        if last:
            d_adam.step()
            d_adam.zero_grad()
        inputs = list(generator.parameters())
        (F.softplus(-discriminator(generator(noise))).mean() / accumulate).backward(inputs=inputs)
        if last:
            g_adam.step()
            g_adam.zero_grad()
            average.update(generator)
    return discriminator, average.model


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_models_train_as_the_loop_written_out_does(accumulate: int) -> None:
    """Each steps once a batch (or once a group of batches), the average follows the generator alone, and the
    generator's pass leaves no gradients in the discriminator."""
    discriminator, average = gan_by_hand(12, accumulate)
    run = run_loop("gan", gradient_accumulation_steps=accumulate)
    same(weights(run), dict(average.state_dict()), 1e-6)
    same(dict(run.state.models[0].module.state_dict()), dict(discriminator.state_dict()), 1e-6)
    assert all(p.grad is None for model in run.state.models for p in model.module.parameters())
    assert run.state.average is not None
    assert run.state.average.steps == 12 // accumulate


def two_models(**options: Any) -> tuple[TrainingRun[TrainConfig], nn.Module, nn.Module]:
    return start(**options), nn.Linear(2, 2), nn.Linear(2, 2)


def test_the_average_and_the_final_weights_are_of_the_model_that_is_named() -> None:
    run, generator, discriminator = two_models()
    with run:
        run.prepare(discriminator, generator, average=generator)
        assert run.ema_model(generator) is not generator
        with pytest.raises(ValueError, match="no average of this Linear"):
            run.ema_model(discriminator)
        with pytest.raises(ValueError, match="was not given to `prepare`"):
            run.ema_model(nn.Linear(2, 2))
        with pytest.raises(ValueError, match="was not given to `prepare`"):
            run.finish(nn.Linear(2, 2))
        run.finish(discriminator)
    same(weights(run), dict(discriminator.state_dict()))


def test_which_of_several_models_is_averaged_has_to_be_said() -> None:
    run, generator, discriminator = two_models()
    with run, pytest.raises(ValueError, match="say which is averaged"):
        run.prepare(discriminator, generator)
    run, generator, discriminator = two_models(ema_decay=0.0)
    with run:
        run.prepare(discriminator, generator)
        with pytest.raises(ValueError, match="name those that this pass trains"), run.forward():
            pass
    run, generator, discriminator = two_models(ema_decay=0.0)
    with run:
        run.prepare(discriminator, generator)
        assert run.ema_model(discriminator) is discriminator


def test_the_noise_depends_on_seed_epoch_batch_and_name_alone() -> None:
    run = start()

    def draw(name: str = "noise", epoch: int = 0, batch: int = 0) -> float:
        run.state.counters.epoch, run.state.counters.batch = epoch, batch
        return float(torch.rand((), generator=run.generator(name)))

    assert draw() == draw()
    assert len({draw(), draw("other"), draw(epoch=1), draw(batch=1)}) == 4
    run.compute.world_size, run.compute.rank = 2, 1
    assert torch.equal(run.local(torch.arange(6)), torch.arange(3, 6))
    with pytest.raises(ValueError, match="7 cannot be divided among 2"):
        run.local(torch.arange(7))


def test_every_loss_is_shown_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: set[str] = set()
    monkeypatch.setattr(Progress, "losses", lambda self, step, losses, throughput, unit: shown.update(losses))
    run_loop("gan")
    assert shown == {"discriminator_loss", "generator_loss"}


# -- a frozen backbone


def test_what_is_frozen_is_stored_nowhere_and_what_is_tied_once() -> None:
    run = run_loop("adapter")
    stored = {"down.weight", "up.bias", "head.weight", "head.bias"}
    assert set(load_file(run.directory / "model.safetensors")) == stored
    assert set(load_file(last_checkpoint(run) / checkpoint.MODEL)) == {f"0.{name}" for name in stored}
    assert not any("backbone" in name for name in load_file(last_checkpoint(run) / checkpoint.STATE))
    assert run.state.average is not None
    average: Any = run.state.average.model
    module: Any = run.state.models[0].module
    assert average.backbone.weight is module.backbone.weight
    assert average.down.weight is not module.down.weight
    fresh = Adapted()
    run.state.models[0].stored.load(fresh, load_file(run.directory / "model.safetensors"))
    same(dict(fresh.state_dict()), dict(average.state_dict()))


def test_what_is_frozen_but_from_no_asset_is_stored() -> None:
    run, model = start(), nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 1))
    with run:
        run.prepare(model)
        run.finish(model)
    assert len(weights(run)) == 4


def test_what_is_trained_has_to_be_stored() -> None:
    run, model = start(), Adapted()
    with run:
        run.prepare(model, pretrained=model.backbone)
        model.head.requires_grad_(False)
        with run.forward(model):
            pass
        assert not model.head.weight.requires_grad, "what the loop froze stays frozen"
        model.backbone.requires_grad_(True)
        with pytest.raises(ValueError, match=r"backbone.weight was frozen when `prepare` was called"):
            run.state.weights()


def test_freezing_a_model_for_a_pass_thaws_only_what_was_trained() -> None:
    run, one, other = two_models(ema_decay=0.0)
    with run:
        run.prepare(one, other)
        one.bias.requires_grad_(False)
        with run.forward(other):
            assert not one.weight.requires_grad
        assert one.weight.requires_grad
        assert not one.bias.requires_grad


# -- batches of tokens


def test_accumulated_batches_of_tokens_count_by_their_tokens() -> None:
    """All 40 sequences in one step: the gradient is that of the mean over all tokens, however they are batched."""
    torch.manual_seed(7)
    model = nn.Sequential(nn.Embedding(9, 8), nn.Dropout(0), nn.Linear(8, 9))
    padded = nn.utils.rnn.pad_sequence(SEQUENCES, batch_first=True)
    logits = model(padded[:, :-1]).flatten(0, 1)
    F.cross_entropy(logits, padded[:, 1:].flatten(), ignore_index=0).backward()
    torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9).step()
    run = run_loop("tokens", epochs=1, gradient_accumulation_steps=1000, ema_decay=0.0)
    assert run.step > 5
    same(weights(run), dict(model.state_dict()), 1e-6)


def test_epochs_of_tokens_may_differ_in_their_batches_and_all_are_counted() -> None:
    run = run_loop("tokens", epochs=4)
    assert run.state.counters.samples == 4 * len(LENGTHS)
    assert run.state.counters.weight == run.facts["tokens"] == 4 * (sum(LENGTHS) - len(LENGTHS))
    rows = read_metrics(run.directory / "metrics.jsonl")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1]["tokens"] == run.facts["tokens"]
    steps = [row["step"] for row in rows]
    assert len({after - before for before, after in itertools.pairwise([0, *steps])}) > 1


# -- how long, and what is kept beside


def test_a_small_data_set_is_passed_over_until_the_least_steps_are_done(capsys: pytest.CaptureFixture[str]) -> None:
    run = run_loop("classifier", epochs=1, min_steps=20)
    assert run.step == 20
    assert len(read_metrics(run.directory / "metrics.jsonl")) == 1, "evaluations are as far apart as training is long"
    assert "planned: 20 steps (--min-steps, since 1 epoch of so small a data set would be only 6)" in (
        capsys.readouterr().out
    )
    run_loop("classifier", epochs=1, min_steps=5, max_minutes=60)
    assert "planned: 6 steps (1 epoch), at most 60 minutes" in capsys.readouterr().out


def test_pictures_are_kept_in_the_run_and_sent_to_trackers() -> None:
    grid = (torch.arange(48).reshape(4, 4, 3) * 5).to(torch.uint8).numpy()

    def draw(run: TrainingRun[TrainConfig]) -> None:
        if run.step in (0, 3):
            run.artifact("samples", grid)

    run = run_loop("classifier", each=draw, trackers=("tensorboard",))
    names = sorted(path.name for path in (run.directory / "artifacts").iterdir())
    assert names == ["samples-00000001.png", "samples-00000004.png"]
    events = b"".join(path.read_bytes() for path in run.directory.rglob("events.out.tfevents.*"))
    assert events.count(b"\x89PNG") == 2


def test_whatever_has_a_state_is_stored_with_the_run() -> None:
    class Count:
        value = 0

        def state_dict(self) -> dict[str, int]:
            return {"value": self.value}

        def load_state_dict(self, state: dict[str, int]) -> None:
            self.value = state["value"]

    def train(count: Count, directory: Path | None = None, stop_at: int | None = None) -> TrainingRun[TrainConfig]:
        run = start(directory, epochs=1)
        run.register_for_checkpointing("count", count)
        with run:
            model = run.prepare(nn.Linear(6, 3))
            for x, _ in run.steps(run.batches(X, Y)):
                count.value += len(x)
                if run.step == stop_at:
                    raise KeyboardInterrupt
            run.finish(model)
        return run

    with pytest.raises(KeyboardInterrupt):
        train(Count(), stop_at=3)
    (directory,) = Path(os.environ["DL_RUNS_DIR"], "toy-capstone").iterdir()
    reset_accelerate()
    count = Count()
    train(count, directory)
    assert count.value == 48


def test_sequences_without_a_weight_are_refused() -> None:
    with pytest.raises(ValueError, match="weight above 0"):
        BucketBatches([3, 4], 10, lambda indices: (), 0, weights=[1, 0])


def test_a_second_prepare_is_refused() -> None:
    run, one, other = two_models()
    with run:
        run.prepare(one)
        with pytest.raises(ValueError, match="all models and optimizers at once"):
            run.prepare(other)


def test_the_summary_tells_the_unit() -> None:
    run = run_loop("tokens", epochs=1)
    assert json.loads(json.dumps(run.facts))["samples"] == 40
