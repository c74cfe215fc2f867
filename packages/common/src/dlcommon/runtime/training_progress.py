"""How long a training lasts, and how far it is."""

import math
from typing import Any

from dlcommon.runtime.batches import Batch, EpochBatches, Tensors
from dlcommon.runtime.compute import Compute
from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.run import RunClock
from dlcommon.runtime.training_state import Counters, TrainingState


class Budget:
    """Plans a training in batches: its epochs, or more of them where these would be fewer than `min_steps` steps.

    Args:
        config: `epochs`, `min_steps` (optimizer steps), `evaluate_every`.
        batches: says how many an epoch holds; epochs may differ.
    """

    def __init__(self, config: TrainConfig, batches: EpochBatches) -> None:
        self.config, self.batches = config, batches
        whole = int(config.epochs)
        self.in_epochs = sum(batches.length(epoch) for epoch in range(whole))
        if config.epochs > whole:
            self.in_epochs += math.ceil((config.epochs - whole) * batches.length(whole))
        wanted = config.min_steps * config.gradient_accumulation_steps
        self.total = max(self.in_epochs, wanted, 1)
        """Batches of the whole training."""
        stretch = self.total / max(1, self.in_epochs)
        self._evaluate_every = config.evaluate_every * stretch

    def describe(self) -> str:
        """Describes the planned steps, epochs and minutes in one line."""
        config = self.config
        steps, in_epochs = (-(-n // config.gradient_accumulation_steps) for n in (self.total, self.in_epochs))
        epochs = f"{config.epochs:g} epoch" + ("s" if config.epochs != 1 else "")
        if self.total > self.in_epochs:
            reason = f"--min-steps, since {epochs} of so small a data set would be only {in_epochs:,}"
        else:
            reason = epochs
        plan = f"planned: {steps:,} steps ({reason})"
        return plan + (f", at most {config.max_minutes:g} minutes" if config.max_minutes is not None else "")

    def epochs_at(self, epoch: int, batch: int) -> float:
        """Returns the number of epochs, as a fraction, after `batch` batches of epoch `epoch`."""
        return epoch + batch / self.batches.length(epoch)

    def ends_stretch(self, epoch: int, batch: int) -> bool:
        """Tells whether an evaluation is due after this batch of the epoch, counted from 0."""
        before, after = (self.epochs_at(epoch, batch + n) / self._evaluate_every + 1e-9 for n in (0, 1))
        return int(after) > int(before)


class TrainingProgress:
    """Counts batches, samples and what their weights count, and compares them with the budget."""

    def __init__(self, config: TrainConfig, state: TrainingState, compute: Compute, clock: RunClock) -> None:
        self.config, self.state, self.compute, self.clock = config, state, compute, clock
        self.budget: Budget | None = None
        self.unit = "samples"
        """What the batches' weights count."""
        self.is_last = False
        """Whether the batch at hand is the last, since epochs or minutes end with it."""
        self._batch = Batch((), 0, 0.0, 0.0)

    @property
    def counters(self) -> Counters:
        """Batches and samples that are done."""
        return self.state.counters

    @property
    def total(self) -> int:
        """Batches that are planned."""
        return self.budget.total if self.budget else 0

    @property
    def fraction(self) -> float:
        """The share of the budget that is used, in [0, 1]: of the epochs or of the minutes, whichever is larger."""
        done = self.counters.step / self.total if self.total else 0.0
        if self.config.max_minutes is not None:
            minutes = self.compute.broadcast("progress", self.clock.training_seconds) / 60
            done = max(done, minutes / self.config.max_minutes)
        return min(done, 1.0)

    @property
    def is_over(self) -> bool:
        """Whether the budget is used up, or `patience` evaluations in a row brought no improvement."""
        patience = self.config.patience
        stale = patience is not None and self.counters.evaluations_without_best >= patience
        return stale or self.is_last or self.counters.step >= self.total

    def plan(self, batches: EpochBatches) -> Budget:
        """Plans the training over these batches."""
        self.budget, self.unit = Budget(self.config, batches), batches.unit
        return self.budget

    def begin(self, given: Tensors | Batch) -> Batch:
        """Takes the next batch to train on, and decides whether it is the last."""
        if isinstance(given, Batch):
            self._batch = given
        else:
            samples = len(given[0])
            whole = samples * self.compute.world_size
            self._batch = Batch(given, whole, samples, whole)
        # Decided once, before the batch, so that the last evaluation is not missed while a checkpoint is written.
        self.is_last = self.counters.step + 1 >= self.total or self.fraction >= 1
        return self._batch

    def end(self) -> None:
        """Counts the batch that `begin` took as done."""
        assert self.budget is not None
        counters = self.counters
        counters.step += 1
        counters.batch += 1
        counters.samples += self._batch.samples
        counters.weight += self._batch.total_weight
        if counters.batch == self.budget.batches.length(counters.epoch):
            counters.epoch, counters.batch = counters.epoch + 1, 0

    @property
    def should_evaluate(self) -> bool:
        """Whether the batch at hand ends a stretch of `evaluate_every` epochs, or the training."""
        assert self.budget is not None, "asked outside of `steps`"
        due = self.budget.ends_stretch(self.counters.epoch, self.counters.batch)
        return due or self.is_last

    def throughput(self) -> float:
        """Returns the units (samples, tokens) per second so far, the current batch included."""
        return (self.counters.weight + self._batch.total_weight) / max(self.clock.training_seconds, 1e-9)

    def row(self) -> dict[str, Any]:
        """Returns the log row's counters, the current batch included: step, epoch, samples, tokens, FLOPs, seconds."""
        counters = self.counters
        epoch = self.budget.epochs_at(counters.epoch, counters.batch + 1) if self.budget else 0.0
        row = {"step": counters.step + 1, "epoch": round(epoch, 4), "samples": counters.samples + self._batch.samples}
        if self.unit != "samples":
            row[self.unit] = round(counters.weight + self._batch.total_weight)
        if counters.flops:
            row["flops"] = counters.flops
        return {**row, "seconds": round(self.clock.seconds, 2)}

    def facts(self) -> dict[str, Any]:
        """Returns the finished training's totals for the summary: minutes, steps, samples, tokens, epochs, FLOPs."""
        counters = self.counters
        facts: dict[str, Any] = {"minutes": round(self.clock.seconds / 60, 3)}
        if self.compute.device.type == "cpu" and self.compute.world_size == 1:
            facts["cpu_minutes"] = round(self.clock.cpu_seconds / 60, 3)
        facts |= {"steps": counters.step, "samples": counters.samples}
        if self.unit != "samples":
            facts[self.unit] = round(counters.weight)
        if self.budget is not None:
            facts["epochs"] = round(self.budget.epochs_at(counters.epoch, counters.batch), 4)
        return {**facts, **({"flops": counters.flops} if counters.flops else {})}
