"""The powers around a training loop, as one object that the loop calls.

with TrainingRun.start(name, config, data) as run:
    model, optimizer = run.prepare(model, optimizer)
    for images, labels in run.steps(batches):
        with run.forward(model):
            loss = cross_entropy(model(images), labels)
        run.update(loss, optimizer, schedule=schedule)
        if run.should_evaluate:
            run.log_evaluation(accuracy=accuracy(run.ema_model(model)))
    run.finish(model)
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import nn

from dlcommon.runtime import run_directory
from dlcommon.runtime.batches import EpochBatches, TensorBatches, Transform
from dlcommon.runtime.checkpointed_run import CheckpointedRun
from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.errors import UsageError
from dlcommon.runtime.files import write_bytes
from dlcommon.runtime.training_state import weights_as_bytes
from dlcommon.training.averaging import ExponentialMovingAverage
from dlcommon.training.schedules import Schedule, constant, set_learning_rate

Config = TypeVar("Config", bound=TrainConfig)
Model = TypeVar("Model", bound=nn.Module)


class TrainingRun(CheckpointedRun[Config]):
    """A run around a training loop: device, precision, checkpoints, trackers. Made by `TrainingRun.start`."""

    _average: ExponentialMovingAverage | None = None

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
                    self.register_for_checkpointing("average", self._average)
            else:
                self.register_for_checkpointing(f"{type(thing).__name__}-{len(self.state.stateful)}", thing)
        if self.config.compile:
            for model in self.state.models:
                model.compile()
        if self.config.shard and self.world_size > 1:
            self.state.shard(self.device)
            return objects if len(objects) > 1 else objects[0]
        prepared = tuple(
            self.accelerator.prepare_model(thing, device_placement=False) if isinstance(thing, nn.Module) else thing
            for thing in objects
        )
        return prepared if len(prepared) > 1 else prepared[0]

    def register_for_checkpointing(self, name: str, thing: Any) -> None:
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
                world_size=self.world_size,
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
                counters.samples += len(batch[0]) * self.world_size
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

    @contextmanager
    def forward(self, *models: nn.Module) -> Iterator[None]:
        """Autocast, and between the steps of an accumulated batch no exchange of gradients."""
        with self.accelerator.accumulate(*models), self.autocast():
            yield

    def autocast(self) -> AbstractContextManager[None]:
        """Mixed precision as the run was started with; also for evaluation."""
        return self.compute.autocast()

    def update(
        self,
        loss: torch.Tensor,
        *optimizers: torch.optim.Optimizer,
        schedule: Schedule = constant,
        gradient_scale: float = 1.0,
    ) -> None:
        """Backward; then, once a batch is accumulated: clip, set the rates, step, average, clear."""
        self.backward(loss, gradient_scale)
        if self.accelerator.sync_gradients:
            self.apply(*optimizers, schedule=schedule)

    def backward(self, loss: torch.Tensor, gradient_scale: float = 1.0) -> None:
        """Adds this loss's gradients, scaled for accumulation; the loss itself is what is shown."""
        self._pending_loss = loss.detach()
        self.accelerator.backward(gradient_scale * loss)
        # Looking at a loss waits for an accelerator, so there not at every one.
        if self.step % 50 == 0 or self.device.type == "cpu":
            self._check_finite()

    def apply(self, *optimizers: torch.optim.Optimizer, schedule: Schedule = constant) -> None:
        """One optimizer step with the gradients at hand."""
        if self.config.max_grad_norm is not None:
            groups = [group for optimizer in optimizers for group in optimizer.param_groups]
            nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], self.config.max_grad_norm)
        multiplier = schedule(self.progress)
        for optimizer in optimizers:
            set_learning_rate(optimizer, multiplier)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.update(self.unwrap_model(self.state.models[0]))

    def unwrap_model(self, model: Model) -> Model:
        """The model itself, without what distribution and compilation wrapped around it.

        Under `--shard`, an unsplit copy with the weights of now: all processes have to ask for it.
        """
        return cast(Model, self.state.unwrap_model(model))

    def ema_model(self, model: Model) -> Model:
        """The moving average of the weights where the run keeps one, else the model."""
        return cast(Model, self._average.model) if self._average is not None else model

    # -- what the loop may ask and tell

    @property
    def should_evaluate(self) -> bool:
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

    def log_evaluation(self, *, maximize: str | None = None, minimize: str | None = None, **metrics: float) -> None:
        """Logs an evaluation; keeps the best weights and stops early by the metric named."""
        self.log(**metrics)
        self.progress_display.show(self.step + 1, **metrics)
        name = maximize or minimize
        if name is None:
            return
        # Batch statistics are each process's own, so what they measure can differ in the last digits.
        value = self.compute.broadcast(metrics[name] if maximize else -metrics[name])
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
            "processes": self.world_size,
            **({"flops": self.flops} if self.flops else {}),
            **facts,
        }

    def _save_weights(self, model: nn.Module, path: Path) -> None:
        saved = self.ema_model(self.unwrap_model(model))
        if self.is_main:
            write_bytes(path, weights_as_bytes(saved))
