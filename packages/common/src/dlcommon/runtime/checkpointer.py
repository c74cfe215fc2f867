"""Keeps what a training loop has reached: checkpoints to resume from, and the weights of the best evaluation."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dlcommon.runtime import checkpoint
from dlcommon.runtime.compute import Compute
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import write_bytes
from dlcommon.runtime.metrics_log import MetricsLog
from dlcommon.runtime.random_state import random_state, restore_random_state
from dlcommon.runtime.run import RunClock
from dlcommon.runtime.training_state import PreparedModel, TrainingState

PARTS = frozenset(["counters", "stateful", "average", "random", "seconds", "logged_bytes"])
"""What a checkpoint holds beside the weights."""


class Checkpointer:
    """Stores a training's state, its clock and the length of its log every few minutes.

    Args:
        folder: of the checkpoints.
        minutes: between two of them.
    """

    def __init__(
        self, folder: Path, minutes: float, state: TrainingState, compute: Compute, clock: RunClock, log: MetricsLog
    ) -> None:
        self.folder, self.minutes = folder, minutes
        self.state, self.compute, self.clock, self.log = state, compute, clock, log
        self._last = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether the minutes are over; by this process's clock."""
        return time.monotonic() - self._last >= 60 * self.minutes

    def save(self) -> bool:
        """Writes a checkpoint of this step; all processes have to call it, since each may hold a part.

        Returns:
            Whether every parameter is finite; if not, nothing is written.
        """
        self.compute.broadcast("checkpoint")
        weights = self.state.weights()
        if not self.state.is_finite(weights):
            return False
        # Each process draws random numbers of its own, for dropout.
        random = self.compute.of_all(random_state())
        tree: dict[str, Any] = {
            **self.state.rest(),
            "random": random,
            "seconds": [self.clock.seconds, self.clock.cpu_seconds, self.clock.setup_seconds],
            "logged_bytes": self.log.size(),
        }
        if self.compute.is_main:
            checkpoint.save(self.folder, self.state.counters.step, weights, tree)
        self.compute.accelerator.wait_for_everyone()
        self._last = time.monotonic()
        return True

    def restore(self, say: Callable[[str], None]) -> bool:
        """Restores the newest undamaged checkpoint, or starts the log anew if there is none.

        Returns:
            Whether there was one.

        Raises:
            UserError: the checkpoint does not fit this training's models, optimizers and other state, or the processes
                see different ones.
        """
        loaded = checkpoint.load_newest(self.folder, say)
        seen = self.compute.of_all(None if loaded is None else loaded[0].name)
        if len(set(seen)) > 1:
            raise UserError(
                f"the processes of this training see different checkpoints in {self.folder}: "
                f"{', '.join(str(name) for name in seen)}; put the runs into a folder that all machines see alike"
            )
        if loaded is None:
            say("the run left no whole checkpoint; starting it from the beginning")
            self.log.truncate(0)
            return False
        path, weights, tree = loaded
        known = {name.split(".", 1)[0] for name in weights} == {str(n) for n in range(len(self.state.models))}
        if set(tree) != PARTS or not known or set(tree["stateful"]) != set(self.state.stateful):
            raise UserError(f"{path} is of another version of this training and cannot be resumed; start a new run")
        try:
            self.state.load(weights, tree)
        except (RuntimeError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} does not fit this training ({str(error).splitlines()[0]}); start a new run"
            ) from error
        if len(tree["random"]) == self.compute.world_size:
            restore_random_state(tree["random"][self.compute.rank])
        else:
            say("resumed with another number of processes: dropout draws other numbers than it would have")
        seconds = tree["seconds"]
        self.clock.continue_from(*(seconds if isinstance(seconds, list) else (seconds, seconds)))  # no CPU time earlier
        self.log.truncate(int(tree["logged_bytes"]))
        return True


class EarlyStopping:
    """Compares evaluations and counts those without a better one; with a patience, keeps the weights of the best.

    Args:
        folder: of the checkpoints, beside which the best weights lie.
        patience: evaluations without a better one after which training ends; None never ends it.
    """

    def __init__(self, folder: Path, patience: int | None, state: TrainingState, compute: Compute) -> None:
        self.folder, self.patience, self.state, self.compute = folder, patience, state, compute

    def update(self, value: float) -> None:
        """Takes an evaluation, the same on all processes; larger is better."""
        counters = self.state.counters
        if counters.best is not None and value <= counters.best:
            counters.evaluations_without_best += 1
            return
        counters.best, counters.evaluations_without_best = value, 0
        if self.patience is not None:
            for model in self.state.models:
                self._write(model, self._best(model))

    def write_final(self, model: PreparedModel, path: Path) -> None:
        """Writes the model's best weights if they were kept, else its averaged ones, else the current ones."""
        best = self._best(model)
        if self.patience is None or not best.is_file():
            self._write(model, path)
        elif self.compute.is_main:
            write_bytes(path, best.read_bytes())

    def _best(self, model: PreparedModel) -> Path:
        return self.folder / f"best-{self.state.models.index(model)}.safetensors"

    def _write(self, model: PreparedModel, path: Path) -> None:
        module = self.state.averaged_module(model)
        if self.compute.is_main:
            write_bytes(path, model.stored.to_bytes(module))
