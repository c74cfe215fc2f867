"""How long a training lasts."""

import math

from dlcommon.runtime.batches import EpochBatches
from dlcommon.runtime.config import TrainConfig


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
        """What is planned, in a line."""
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
        """Epochs after that many batches of the epoch."""
        return epoch + batch / self.batches.length(epoch)

    def ends_stretch(self, epoch: int, batch: int) -> bool:
        """Whether the batch, counted from 0, is the last one before an evaluation is due."""
        before, after = (self.epochs_at(epoch, batch + n) / self._evaluate_every + 1e-9 for n in (0, 1))
        return int(after) > int(before)
