"""The powers around a training loop, as one object that the loop calls.

with TrainingRun.start(name, config, data) as run:
    model, optimizer = run.prepare(model, optimizer)
    for images, labels in run.steps(batches):
        with run.forward(model):
            loss = cross_entropy(model(images), labels)
        run.update(loss, optimizer, schedule=schedule)
        if run.due_evaluation:
            run.evaluated(accuracy=accuracy(run.averaged(model)))
    run.finish(model)
"""

import math
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, cast

import torch
from torch import nn

from dlcommon.runtime import run_directory
from dlcommon.runtime.batches import EpochBatches, TensorBatches, Transform
from dlcommon.runtime.compute import Compute, agreed_directory, out_of_memory
from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.files import write_bytes
from dlcommon.runtime.output import Output
from dlcommon.runtime.run import Interrupted, Run
from dlcommon.runtime.training_state import TrainingState, weights_as_bytes
from dlcommon.training.averaging import ExponentialMovingAverage
from dlcommon.training.schedules import Schedule, constant, set_learning_rate

Config = TypeVar("Config", bound=TrainConfig)
Model = TypeVar("Model", bound=nn.Module)


class TrainingRun(Run[Config]):
    """A run around a training loop: device, precision, checkpoints, trackers. Made by `TrainingRun.start`."""

    def __init__(
        self,
        capstone: str,
        config: Config,
        data: LocatedDataSet,
        directory: Path,
        output: Output,
        resumed: bool,
    ) -> None:
        super().__init__(capstone, config, data, directory, output, resumed)
        self.compute = Compute(config, directory)
        self.accelerator, self.device = self.compute.accelerator, self.compute.device
        self.precision, self.dtype = self.compute.precision, self.compute.dtype
        self.rank, self.world = self.compute.rank, self.compute.world
        self.is_main = self.accelerator.is_main_process
        self.runs_on = f"{self.device} {self.precision}"
        self.state = TrainingState()
        self._average: ExponentialMovingAverage | None = None
        self._steps_per_epoch = self._total_steps = 0
        self._pending_loss: torch.Tensor | None = None
        self._last_checkpoint = time.monotonic()

    def _open(self) -> None:
        super()._open()
        self.compute.begin_trackers(self.capstone, self.config)

    @classmethod
    def _new_directory(cls, capstone: str, config: Config, data: str) -> Path:
        return agreed_directory(lambda: super(TrainingRun, cls)._new_directory(capstone, config, data), config)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self.compute.end()
        if out_of_memory(error):
            raise UserError(
                f"out of memory at step {self.step}; try a smaller network, or a smaller --batch-size with a larger "
                f"--accumulate"
            ) from error

    def _resume(self) -> None:
        """A loop is restored at its first step, when all that a checkpoint holds has been made."""

    # -- how far it is

    @property
    def step(self) -> int:
        """Batches so far."""
        return self.state.counters.step

    @property
    def epoch(self) -> int:
        """Whole epochs so far."""
        return self.state.counters.epoch

    @property
    def flops(self) -> int:
        """Floating-point operations so far, which the loop adds up where it counts them."""
        return self.state.counters.flops

    @flops.setter
    def flops(self, total: int) -> None:
        self.state.counters.flops = total

    # -- what the loop is made of

    def prepare(self, *objects: Any) -> Any:
        """Moves models to the device, compiles and wraps them; optimizers come back ready to step.

        Whatever is given here is stored in checkpoints.
        """
        for thing in objects:
            if isinstance(thing, nn.Module):
                thing.to(self.device)
                self.state.models.append(thing)
                if self.config.ema_decay and self._average is None:
                    self._average = ExponentialMovingAverage(thing, self.config.ema_decay)
                    self.remember("average", self._average)
            else:
                self.remember(f"{type(thing).__name__}-{len(self.state.stateful)}", thing)
        if self.config.compile:
            for model in self.state.models:
                model.compile()
        if self.config.shard and self.world > 1:
            self.state.shard(self.device)
            return objects if len(objects) > 1 else objects[0]
        prepared = tuple(
            self.accelerator.prepare_model(thing, device_placement=False) if isinstance(thing, nn.Module) else thing
            for thing in objects
        )
        return prepared if len(prepared) > 1 else prepared[0]

    def remember(self, name: str, thing: Any) -> None:
        """Stores anything with `state_dict` and `load_state_dict` in the run's checkpoints."""
        self.state.stateful[name] = thing

    def batches(
        self, *tensors: torch.Tensor, transform: Transform | None = None, seed: int | None = None
    ) -> TensorBatches:
        """This process's share of shuffled, augmented batches; the first tensor is the transform's.

        Raises:
            UsageError: the batch size does not suit the data or the number of processes.
        """
        try:
            return TensorBatches(
                *(tensor.to(self.device) for tensor in tensors),
                batch_size=self.config.batch_size,
                seed=self.config.seed if seed is None else seed,
                transform=transform,
                rank=self.rank,
                world=self.world,
            )
        except ValueError as error:
            raise UsageError(str(error)) from error

    def steps(self, batches: EpochBatches) -> Iterator[tuple[torch.Tensor, ...]]:
        """Batches until the epochs or the minutes are over; restores a resumed run before the first."""
        self._steps_per_epoch = len(batches)
        self._total_steps = math.ceil(self.config.epochs * len(batches))
        if self.resumed:
            self._restore()
        self.progress_display.begin(self._total_steps, self.step)
        while not self._over():
            for batch in batches.epoch(self.epoch, self.state.counters.batch):
                yield batch
                counters = self.state.counters
                counters.step += 1
                counters.batch += 1
                counters.samples += len(batch[0]) * self.world
                if counters.batch == len(batches):
                    counters.epoch, counters.batch = counters.epoch + 1, 0
                self._after_step()
                if self._over():
                    break
        self._check_finite()
        self._checkpoint()

    def _over(self) -> bool:
        patience = self.config.patience
        stale = patience is not None and self.state.counters.evaluations_without_best >= patience
        return stale or self.step >= self._total_steps or self.progress >= 1

    @property
    def progress(self) -> float:
        """How much of the budget, epochs or minutes, is used: in [0, 1]."""
        done = self.step / self._total_steps if self._total_steps else 0.0
        if self.config.max_minutes is not None:
            done = max(done, self.compute.agreed(self.seconds) / (60 * self.config.max_minutes))
        return min(done, 1.0)

    @contextmanager
    def forward(self, *models: nn.Module) -> Iterator[None]:
        """Autocast, and between the steps of an accumulated batch no exchange of gradients."""
        with self.accelerator.accumulate(*models), self.autocast():
            yield

    def autocast(self) -> AbstractContextManager[None]:
        """Mixed precision as the run was started with; also for evaluation."""
        return self.compute.autocast()

    def update(self, loss: torch.Tensor, *optimizers: torch.optim.Optimizer, schedule: Schedule = constant) -> None:
        """Backward; then, once a batch is accumulated: clip, set the rates, step, average, clear."""
        self.backward(loss)
        if self.accelerator.sync_gradients:
            self.apply(*optimizers, schedule=schedule)

    def backward(self, loss: torch.Tensor) -> None:
        """Adds this loss's gradients, scaled for accumulation."""
        self._pending_loss = loss.detach()
        self.accelerator.backward(loss)
        # Looking at a loss waits for an accelerator, so there not at every one.
        if self.step % 50 == 0 or self.device.type == "cpu":
            self._check_finite()

    def apply(self, *optimizers: torch.optim.Optimizer, schedule: Schedule = constant) -> None:
        """One optimizer step with the gradients at hand."""
        if self.config.clip_norm is not None:
            groups = [group for optimizer in optimizers for group in optimizer.param_groups]
            nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], self.config.clip_norm)
        multiplier = schedule(self.progress)
        for optimizer in optimizers:
            set_learning_rate(optimizer, multiplier)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.update(self.unwrapped(self.state.models[0]))

    def unwrapped(self, model: nn.Module) -> nn.Module:
        """The model itself, without what distribution and compilation wrapped around it.

        Under `--shard`, an unsplit copy with the weights of now: all processes have to ask for it.
        """
        return self.state.unwrapped(model)

    def averaged(self, model: Model) -> Model:
        """The moving average of the weights where the run keeps one, else the model."""
        return cast(Model, self._average.model) if self._average is not None else model

    # -- what the loop may ask and tell

    @property
    def due_evaluation(self) -> bool:
        """Whether this step ends a stretch of `evaluate_every` epochs, or the training."""
        every = max(1, round(self.config.evaluate_every * self._steps_per_epoch))
        return (self.step + 1) % every == 0 or self.step + 1 >= self._total_steps or self.progress >= 1

    def log(self, **values: float) -> None:
        """Adds a row to metrics.jsonl and to the trackers."""
        step = self.step + 1
        row = {
            "step": step,
            "epoch": round(step / max(1, self._steps_per_epoch), 4),
            "samples": self._next_samples,
        }
        if self.flops:
            row["flops"] = self.flops
        self.log_file.append({**row, "seconds": round(self.seconds, 2), **values})
        if self.config.trackers:
            self.accelerator.log(values, step=step)

    @property
    def _next_samples(self) -> int:
        return self.state.counters.samples + self.config.batch_size

    def evaluated(self, *, maximize: str | None = None, minimize: str | None = None, **metrics: float) -> None:
        """Logs an evaluation; keeps the best weights and stops early by the metric named."""
        self.log(**metrics)
        self.progress_display.show(self.step + 1, **metrics)
        name = maximize or minimize
        if name is None:
            return
        # Batch statistics are each process's own, so what they measure can differ in the last digits.
        value = self.compute.agreed(metrics[name] if maximize else -metrics[name])
        counters = self.state.counters
        if counters.best is None or value > counters.best:
            counters.best, counters.evaluations_without_best = value, 0
            if self.config.patience is not None:
                self._save_weights(self.state.models[0], self.directory / "checkpoints" / "best.safetensors")
        else:
            counters.evaluations_without_best += 1

    def finish(self, model: nn.Module | Mapping[str, bytes], /, **facts: Any) -> None:
        """Saves the final weights: the best ones under early stopping, else the averaged or last ones."""
        if not isinstance(model, nn.Module):
            super().finish(model, **facts)
            return
        self._check_finite()
        best = self.directory / "checkpoints" / "best.safetensors"
        if self.config.patience is not None and best.is_file():
            if self.is_main:
                write_bytes(self.directory / run_directory.WEIGHTS, best.read_bytes())
        else:
            self._save_weights(model, self.directory / run_directory.WEIGHTS)
        self.files = [run_directory.WEIGHTS]
        self.facts = {
            "minutes": round(self.seconds / 60, 3),
            "steps": self.step,
            "samples": self.state.counters.samples,
            "epochs": round(self.step / max(1, self._steps_per_epoch), 4),
            "device": str(self.device),
            "precision": self.precision,
            "processes": self.world,
            **({"flops": self.flops} if self.flops else {}),
            **facts,
        }

    # -- saving and restoring

    def _save_weights(self, model: nn.Module, path: Path) -> None:
        saved = self.averaged(self.unwrapped(model))
        if self.is_main:
            write_bytes(path, weights_as_bytes(saved))

    def _check_finite(self) -> None:
        if self._pending_loss is None:
            return
        loss = float(self._pending_loss)
        if not math.isfinite(loss):
            raise self._diverged(f"the loss became {loss}")
        self.progress_display.loss(self.step, loss, self._next_samples / max(self.seconds, 1e-9))

    def _diverged(self, what: str) -> UserError:
        return UserError(
            f"{what} at step {self.step} (learning rate at {self.progress:.1%} of the schedule, "
            f"{self.precision}); the last checkpoint is whole. Try a lower learning rate or --clip-norm 1"
            + (", or --precision fp32" if self.precision == "bf16" else "")
        )

    def _after_step(self) -> None:
        if not self.accelerator.sync_gradients:  # half of an accumulated batch cannot be stored
            return
        due = time.monotonic() - self._last_checkpoint >= 60 * self.config.checkpoint_minutes
        stop = bool(self.compute.agreed(float(self._stop_signal is not None)))
        if stop or self.compute.agreed(float(due)):
            self._check_finite()
            self._checkpoint()
        if stop:
            raise Interrupted(self._stop_signal or signal.SIGTERM, self.directory)

    def _checkpoint(self) -> None:
        clock = {"seconds": self.seconds, "logged_bytes": self.log_file.size()}
        if not self.state.save(self.directory / "checkpoints", clock, write=self.is_main):
            raise self._diverged("a weight became infinite or NaN")
        self.accelerator.wait_for_everyone()
        self._last_checkpoint = time.monotonic()

    def _restore(self) -> None:
        restored = self.state.restore(self.directory / "checkpoints", self.output.say)
        if restored is None:
            self.output.say("the run left no whole checkpoint; starting it from the beginning")
            self.log_file.truncate(0)
            return
        name, clock = restored
        self._seconds_before, self._started = clock["seconds"], time.monotonic()
        self.log_file.truncate(int(clock["logged_bytes"]))
        self.accelerator.step = self.step  # what it counts accumulated batches by
        self.output.say(f"resumed from {name} (epoch {self.epoch}, {self.seconds / 60:.1f} minutes in)")
