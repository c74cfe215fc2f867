"""A training that is stored as it goes on, so that what ends it early costs no more than the steps since."""

import math
import signal
import time
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import torch

from dlcommon.runtime.compute import Compute, broadcast_directory, out_of_memory
from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.run import Interrupted, Run
from dlcommon.runtime.training_state import TrainingState

Config = TypeVar("Config", bound=TrainConfig)


class CheckpointedRun(Run[Config]):
    """How far a training is, when that is stored and put back, and what stops it."""

    def _open(self) -> None:
        self.compute = Compute(self.config, self.directory)
        self.accelerator, self.device = self.compute.accelerator, self.compute.device
        self.precision, self.dtype = self.compute.precision, self.compute.dtype
        self.rank, self.world_size = self.compute.rank, self.compute.world_size
        self.is_main = self.accelerator.is_main_process
        self.runs_on = f"{self.device} {self.precision}"
        self.state = TrainingState()
        self._steps_per_epoch = self._total_steps = 0
        self._pending_loss: torch.Tensor | None = None
        self._last_checkpoint = time.monotonic()
        super()._open()
        self.compute.begin_trackers(self.capstone, self.config)

    @classmethod
    def _new_directory(cls, capstone: str, config: Config, data: str) -> Path:
        return broadcast_directory(lambda: super(CheckpointedRun, cls)._new_directory(capstone, config, data), config)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self.compute.end()
        if out_of_memory(error):
            raise UserError(
                f"out of memory at step {self.step}; try a smaller network, or a smaller --batch-size with a larger "
                f"--gradient-accumulation-steps"
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

    @property
    def progress(self) -> float:
        """How much of the budget, epochs or minutes, is used: in [0, 1]."""
        done = self.step / self._total_steps if self._total_steps else 0.0
        if self.config.max_minutes is not None:
            done = max(done, self.compute.broadcast(self.seconds) / (60 * self.config.max_minutes))
        return min(done, 1.0)

    @property
    def _next_samples(self) -> int:
        return self.state.counters.samples + self.config.batch_size

    # -- saving and restoring

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
            f"{self.precision}); the last checkpoint is whole. Try a lower learning rate or --max-grad-norm 1"
            + (", or --precision fp32" if self.precision == "bf16" else "")
        )

    def _after_step(self) -> None:
        if not self.accelerator.sync_gradients:  # half of an accumulated batch cannot be stored
            return
        due = time.monotonic() - self._last_checkpoint >= 60 * self.config.checkpoint_minutes
        stop = bool(self.compute.broadcast(float(self._stop_signal is not None)))
        if stop or self.compute.broadcast(float(due)):
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
