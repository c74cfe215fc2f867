"""Runs a training loop: device, precision, budget, checkpoints and logging behind one object that the loop calls.

with TrainingRun.start(name, config, data) as run:
    model, optimizer = run.prepare(model, optimizer)
    for images, labels in run.steps(batches):
        with run.forward(model):
            loss = cross_entropy(model(images), labels)
        run.update(loss, optimizer, schedule=schedule)
        if run.should_evaluate:
            run.log_evaluation(accuracy=accuracy(run.ema_model(model)))
    run.finish(model)

With several models, each pass names those that it trains; the others that were prepared get no gradients from it:

    generator, discriminator, *optimizers = run.prepare(generator, discriminator, *optimizers, average=generator)
    for (real,) in run.steps(batches):
        noise = run.local(torch.randn(config.batch_size, 128, generator=run.generator("noise")))
        with run.forward(discriminator):
            loss = discriminator_loss(discriminator(real), discriminator(generator(noise)))
        run.update(loss, discriminator_optimizer, name="discriminator_loss")
        with run.forward(generator):
            loss = generator_loss(discriminator(generator(noise)))
        run.update(loss, generator_optimizer)
"""

import signal
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import torch
from PIL import Image
from torch import nn

from dlcommon.runtime import elastic, run_directory
from dlcommon.runtime.batches import EpochBatches, TensorBatches, Tensors, Transform, generator_for
from dlcommon.runtime.checkpointer import Checkpointer, EarlyStopping
from dlcommon.runtime.compute import Compute, out_of_memory
from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.gradient_accumulation import GradientAccumulation
from dlcommon.runtime.output import Output
from dlcommon.runtime.random_state import seed_everything
from dlcommon.runtime.run import Interrupted, Run
from dlcommon.runtime.training_progress import TrainingProgress
from dlcommon.runtime.training_state import TrainingState
from dlcommon.training.schedules import Schedule, constant, set_learning_rate

Config = TypeVar("Config", bound=TrainConfig)
Model = TypeVar("Model", bound=nn.Module)


class TrainingRun(Run[Config]):
    """Manages a training loop's device, precision, budget, checkpoints and trackers. Made by `TrainingRun.start`."""

    def __init__(
        self,
        capstone: str,
        config: Config,
        data: LocatedDataSet,
        directory: Path,
        output: Output,
        resumed: bool,
        compute: Compute,
    ) -> None:
        runs_on = f"{compute.device} {compute.precision}"
        super().__init__(capstone, config, data, directory, output, resumed, is_main=compute.is_main, runs_on=runs_on)
        self.compute, self.state = compute, TrainingState()
        self.position = TrainingProgress(config, self.state, compute, self.clock)
        self.accumulation = GradientAccumulation(config.gradient_accumulation_steps, compute.world_size)
        checkpoints = directory / "checkpoints"
        self.checkpointer = Checkpointer(
            checkpoints, config.checkpoint_minutes, self.state, compute, self.clock, self.log_file
        )
        self.early_stopping = EarlyStopping(checkpoints, config.patience, self.state, compute)
        self.device, self.precision, self.dtype = compute.device, compute.precision, compute.dtype
        """What the models compute on, `bf16` or `fp32`, and what matrices are multiplied in."""
        self.rank, self.world_size = compute.rank, compute.world_size
        """Number of this process, from 0, and how many train together."""

    @classmethod
    def _create(
        cls,
        capstone: str,
        config: Config,
        data: LocatedDataSet,
        directory: Path | None,
        output: Output,
        origin: Mapping[str, str],
    ) -> Self:
        compute = Compute(config)
        restarted = any(compute.of_all(elastic.was_restarted()))
        unfinished = compute.of_main(lambda: directory or elastic.run_to_continue(capstone, origin, restarted))
        if unfinished is not None and not (unfinished / run_directory.CONFIG).is_file():
            raise UserError(
                f"this machine does not see {unfinished}, which the training continues; put the runs into a folder "
                f"that all machines share, and name it in DL_RUNS_DIR"
            )
        chosen = unfinished or compute.of_main(lambda: run_directory.create_run_directory(capstone, data.name))
        compute.begin_trackers(capstone, config, chosen)
        return cls(capstone, config, data, chosen, output, unfinished is not None, compute)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            self.compute.end()
        if out_of_memory(error):
            raise UserError(
                f"out of memory at step {self.step}; try a smaller network, or a smaller --batch-size with more "
                f"--gradient-accumulation-steps"
            ) from error

    def _resume(self) -> None:
        """Leaves restoring to the first step, when all that a checkpoint holds has been made."""

    # -- how far the training is

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

    @property
    def progress(self) -> float:
        """The share of the budget that is used, in [0, 1]: of the epochs or of the minutes, whichever is larger."""
        return self.position.fraction

    # -- what the loop is made of

    def prepare(
        self, *objects: Any, average: nn.Module | None = None, pretrained: nn.Module | Collection[nn.Module] = ()
    ) -> Any:
        """Moves models to the device, compiles and wraps them; optimizers come back ready to step.

        Whatever is given here is stored in checkpoints.

        Args:
            average: the model whose moving average the run keeps under `--ema-decay`; needed where there are several.
            pretrained: modules that were loaded from an asset; their frozen parameters are not stored.

        Raises:
            ValueError: there are several models and none is named to be averaged, or it is the second call.
        """
        parts = [pretrained] if isinstance(pretrained, nn.Module) else list(pretrained)
        prepared = self.state.prepare(objects, self.config, self.compute, average, parts)
        return prepared if len(prepared) > 1 else prepared[0]

    def register_for_checkpointing(self, name: str, thing: Any) -> None:
        """Stores anything with `state_dict` and `load_state_dict` in the run's checkpoints."""
        self.state.stateful[name] = thing

    def batches(
        self, *tensors: torch.Tensor, transform: Transform | None = None, seed: int | None = None
    ) -> TensorBatches:
        """Makes this process's part of shuffled, augmented batches; the first tensor is the transform's.

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

    def generator(self, name: str) -> torch.Generator:
        """Makes a CPU generator for this batch: a pure function of (seed, epoch, batch, name), on every process alike.

        Draw for the whole batch and take `local`, and two processes see what one would.
        """
        counters = self.state.counters
        return generator_for(self.config.seed, counters.epoch, counters.batch, name)

    def local(self, tensor: torch.Tensor) -> torch.Tensor:
        """Moves this process's equal part of a tensor to the device; the tensor's first axis is the whole batch."""
        return self.compute.local(tensor)

    def steps(self, batches: EpochBatches) -> Iterator[Tensors]:
        """Yields batches until the epochs or the minutes are over; restores a resumed run before the first.

        The minutes count from here on: what it took to get here is no training.

        Raises:
            UserError: the budget allows no step.
        """
        budget = self.position.plan(batches)
        if self.world_size > 1:  # the same weights everywhere, but other dropout
            seed_everything(generator_for(self.config.seed, "rank", self.rank).initial_seed())
        if not self.resumed or not self.checkpointer.restore(self.output.say):
            self.clock.end_setup()
        elif self.is_main:
            self.output.say(f"resumed at step {self.step} (epoch {self.epoch}, {self.seconds / 60:.1f} minutes in)")
        self.position.is_last = self.position.fraction >= 1  # a resumed run may have nothing left to do
        if self.is_main:
            self.output.say(budget.describe())
        self.progress_display.begin(budget.total, self.step)
        while not self.position.is_over:
            for given in batches.epoch(self.epoch, self.state.counters.batch):
                batch = self.position.begin(given)
                self.accumulation.begin(batch, self.position.is_last)
                yield batch.tensors
                self.position.end()
                self._after_step()
                if self.position.is_over:
                    break
        if not self.step:
            raise UserError(f"--max-minutes {self.config.max_minutes:g} allows not even one step; give it more minutes")
        self._check_finite()
        self._save_checkpoint()

    def _after_step(self) -> None:
        if not self.accumulation.is_complete:  # half of an accumulated batch cannot be stored
            return
        wanted = 2 if self.stop_requested else 1 if self.checkpointer.is_due else 0
        decided = self.compute.broadcast("step", wanted)  # in one exchange, since it is one for every step
        if decided:
            self._check_finite()
            self._save_checkpoint()
        if decided == 2:
            raise Interrupted(self.stop.received or signal.SIGTERM, self.directory)

    def _save_checkpoint(self) -> None:
        if not self.checkpointer.save():
            raise self._diverged("a weight became infinite or NaN")

    # -- one step

    @contextmanager
    def forward(self, *trained: nn.Module) -> Iterator[None]:
        """Enters mixed precision; gradients of this pass go to the models named, and to no other.

        Other models that were prepared are frozen meanwhile: gradients pass through them to their inputs, but none are
        kept for their weights. Processes exchange gradients only in the last batch of an accumulated one.

        Raises:
            ValueError: several models were prepared, and none is named; or one that was not.
        """
        with self.state.forward(trained, self.compute, exchange=self.accumulation.is_complete), self.autocast():
            yield

    def autocast(self) -> AbstractContextManager[None]:
        """Enters the run's precision: bf16 autocast under bf16, else nothing changes; also for evaluation."""
        return self.compute.autocast()

    def update(
        self,
        loss: torch.Tensor,
        *optimizers: torch.optim.Optimizer,
        schedule: Schedule = constant,
        gradient_scale: float = 1.0,
        name: str = "loss",
    ) -> None:
        """Computes gradients; then, once a batch is accumulated, clips them, sets the rates, steps, and averages.

        Args:
            loss: a mean over this batch's samples, or over what its weight counts.
            gradient_scale: multiplies the gradients, but not the loss that is shown.
            name: what the progress display calls the loss.
        """
        self.backward(loss, gradient_scale, name)
        if self.accumulation.is_complete:
            self.apply(*optimizers, schedule=schedule)

    def backward(self, loss: torch.Tensor, gradient_scale: float = 1.0, name: str = "loss") -> None:
        """Adds this loss's gradients, weighted for accumulation; the display shows the unweighted loss."""
        self.accumulation.add_loss(name, loss)
        scale = gradient_scale * self.accumulation.loss_scale
        self.compute.accelerator.backward(loss if scale == 1.0 else scale * loss)
        # Looking at a loss waits for an accelerator, so there not at every one.
        if self.step % 50 == 0 or self.device.type == "cpu":
            self._check_finite()

    def apply(self, *optimizers: torch.optim.Optimizer, schedule: Schedule = constant) -> None:
        """Takes one step of these optimizers with the gradients at hand, and clears them."""
        parameters = [p for o in optimizers for group in o.param_groups for p in group["params"]]
        self.accumulation.average_gradients(parameters)
        if self.config.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(parameters, self.config.max_grad_norm)
        multiplier = schedule(self.progress)
        for optimizer in optimizers:
            set_learning_rate(optimizer, multiplier)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.state.update_average(optimizers)

    def _check_finite(self) -> None:
        losses = self.accumulation.shown_losses()
        for name, loss in losses.items():
            if loss - loss != 0:  # infinite or NaN
                raise self._diverged(f"the {name} became {loss}")
        if losses:
            self.progress_display.losses(self.step, losses, self.position.throughput(), self.position.unit)

    def _diverged(self, what: str) -> UserError:
        return UserError(
            f"{what} at step {self.step} (learning rate at {self.progress:.1%} of the schedule, "
            f"{self.precision}); the last checkpoint is whole. Try a lower learning rate or --max-grad-norm 1"
            + (", or --precision fp32" if self.precision == "bf16" else "")
        )

    # -- models as they are evaluated and kept

    def unwrap_model(self, model: Model) -> Model:
        """Returns the model itself, without the wrappers of distribution and compilation.

        Under `--shard`, returns an unsplit copy with the current weights.

        Raises:
            ValueError: the model was not given to `prepare`.
            RuntimeError: under `--shard`, not all processes asked for it.
        """
        prepared = self.state.find(model)
        if self.state.sharding:
            self.compute.broadcast("unwrap_model")
        return cast(Model, self.state.unwrap(prepared))

    def ema_model(self, model: Model) -> Model:
        """Returns the model with averaged weights; if the run keeps no average at all, the unwrapped model itself.

        Raises:
            ValueError: the run averages a different model, or the model was not given to `prepare`.
        """
        prepared = self.state.find(model)
        if self.state.average is None:
            return self.unwrap_model(model)
        if self.state.averaged is not prepared:
            raise ValueError(f"the run keeps no average of this {type(prepared.module).__name__}, but of another model")
        return cast(Model, self.state.average.model)

    # -- what the loop may ask and tell

    @property
    def should_evaluate(self) -> bool:
        """Whether this step ends a stretch of `evaluate_every` epochs, or the training."""
        return self.position.should_evaluate

    def log(self, **values: float) -> None:
        """Adds a row to metrics.jsonl and to the trackers."""
        self.log_file.append({**self.position.row(), **values})
        if self.config.trackers:
            self.compute.accelerator.log(values, step=self.step + 1)

    @property
    def _artifact_number(self) -> int:
        return self.step + 1

    def _track(self, name: str, image: Image.Image) -> None:
        self.compute.track_image(name, image, self.step + 1)

    def log_evaluation(self, *, maximize: str | None = None, minimize: str | None = None, **metrics: float) -> None:
        """Logs an evaluation; keeps the best weights and stops early by the metric named."""
        self.log(**metrics)
        self.progress_display.show(self.step + 1, **metrics)
        name = maximize or minimize
        if name is None:
            return
        # Batch statistics are each process's own, so what they measure can differ in the last digits.
        value = self.compute.broadcast("log_evaluation", metrics[name] if maximize else -metrics[name])
        self.early_stopping.update(value)

    def finish(self, model: nn.Module | Mapping[str, bytes], /, **facts: Any) -> None:
        """Saves a model's final weights: the best ones under early stopping, else the averaged or last ones.

        Of several models, the one given; its frozen pretrained parts are left out.

        Raises:
            ValueError: the model was not given to `prepare`.
        """
        if not isinstance(model, nn.Module):
            super().finish(model, **facts)
            return
        self._check_finite()
        self.compute.broadcast("finish")
        self.early_stopping.write_final(self.state.find(model), self.directory / run_directory.WEIGHTS)
        self.files = [run_directory.WEIGHTS]
        self.facts = {
            **self.position.facts(),
            "device": str(self.device),
            "precision": self.precision,
            "processes": self.world_size,
            **facts,
        }
