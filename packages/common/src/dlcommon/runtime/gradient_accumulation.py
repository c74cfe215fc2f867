"""Several batches for one optimizer step, each counted by its weight."""

from collections.abc import Iterable

import torch

from dlcommon.runtime.batches import Batch


class GradientAccumulation:
    """Averages the gradients of a group of batches, and of the processes, by the batches' weights.

    The loss lᵢ of batch i is a mean over the weight wᵢ that a process holds of it; the whole batch has Wᵢ. One large
    batch would give Σ wᵢ ∇lᵢ / Σ Wᵢ, summed over batches and processes. Wᵢ of later batches is not known yet when the
    first loss is computed, so each is scaled by world_size · wᵢ / W₁ (DDP divides by world_size), and the sum by
    W₁ / Σ Wᵢ.

    Args:
        steps: batches in a group.
    """

    def __init__(self, steps: int, world_size: int) -> None:
        self.steps, self.world_size = steps, world_size
        self.is_complete = True
        """Whether the batch at hand is the last of its group: its gradients are exchanged, and a step is taken."""
        self._count = 0
        self._batch = Batch((), 1, 1.0, float(world_size))
        self._first_weight = self._total_weight = 1.0
        self._losses: dict[str, tuple[torch.Tensor, float]] = {}

    def begin(self, batch: Batch, last: bool) -> None:
        """Takes the next batch into the group; `last` ends the group early, with the training."""
        if self.is_complete:
            self._count, self._total_weight, self._first_weight = 0, 0.0, batch.total_weight
            self._losses.clear()
        self._batch = batch
        self._count += 1
        self._total_weight += batch.total_weight
        self.is_complete = last or self._count >= self.steps

    @property
    def loss_scale(self) -> float:
        """The factor to multiply this batch's loss by before its backward pass."""
        return self.world_size * self._batch.weight / self._first_weight

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Turns the sum of the group's gradients into their mean."""
        factor = self._first_weight / self._total_weight
        if factor != 1.0:
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            if gradients:
                torch._foreach_mul_(gradients, factor)

    def add_loss(self, name: str, loss: torch.Tensor) -> None:
        """Takes a loss into the mean that is shown for the group."""
        weight, loss = self._batch.weight, loss.detach()
        if name in self._losses:
            before, known = self._losses[name]
            weight, loss = known + weight, before + (loss - before) * (weight / ((known + weight) or 1.0))
        self._losses[name] = (loss, weight)

    def shown_losses(self) -> dict[str, float]:
        """Returns the mean of each loss, by name, over this process's part of the group so far."""
        return {name: float(loss) for name, (loss, _) in self._losses.items()}
