"""The training loop: batches, loss, gradient, clipping, update, schedule, validation, best weights, early stopping.

The capstones' loops have the same shape; what they add (devices, precision, resuming) is `dlcommon.runtime`'s.
"""

import copy
import math
from dataclasses import dataclass, field

import torch
from torch import nn

from dlcommon.pytorch_core.loader import DataLoader
from dlcommon.pytorch_core.losses import cross_entropy
from dlcommon.training.gradient_clipping import clip_by_global_norm
from dlcommon.training.schedules import Schedule, constant, set_learning_rate


@dataclass
class History:
    """Records a training, with one value per step or per epoch."""

    losses: list[float] = field(default_factory=list)
    """Loss of each step's batch, before the update."""
    gradient_norms: list[float] = field(default_factory=list)
    """Gradient norm of each step, before clipping."""
    learning_rates: list[float] = field(default_factory=list)
    """Learning rate of each step."""
    validation_losses: list[float] = field(default_factory=list)
    """Validation loss after each epoch."""
    best_epoch: int = 0
    """The first epoch with the lowest validation loss; the network has its weights."""


@torch.no_grad()
def evaluate(network: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> tuple[float, float]:
    """Computes the mean cross-entropy and the accuracy in evaluation mode; puts the network's mode back.

    Args:
        inputs: [samples, …].
        targets: classes, int64 [samples].
    """
    training = network.training
    network.eval()
    logits = network(inputs)  # [samples, num_classes]
    network.train(training)
    return cross_entropy(logits, targets).item(), (logits.argmax(1) == targets).double().mean().item()


def fit(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: DataLoader,
    validation: tuple[torch.Tensor, torch.Tensor],
    epochs: int,
    schedule: Schedule = constant,
    max_grad_norm: float = math.inf,
    patience: int = 4,
) -> History:
    """Trains a classifier and leaves it with the weights of its best epoch.

    Args:
        loader: gives batches of inputs [batch, …] and classes [batch].
        validation: inputs [samples, …] and classes [samples], which decide when to stop and what to keep.
        schedule: multiplier of the learning rate for the progress in [0, 1): epochs done, fractions included, of all.
        max_grad_norm: gradients are clipped to this norm.
        patience: stops at the end of the epoch that is this many after the best one without being better.

    Raises:
        FloatingPointError: a loss is infinite or not a number.
    """
    history, best_loss, best_weights = History(), math.inf, copy.deepcopy(network.state_dict())
    network.train()
    for epoch in range(epochs):
        for step, (inputs, targets) in enumerate(loader.epoch(epoch)):
            set_learning_rate(optimizer, schedule((epoch + step / len(loader)) / epochs))
            optimizer.zero_grad()  # else this step's gradient is added to the last one's
            loss = cross_entropy(network(inputs), targets)
            if not loss.isfinite():
                raise FloatingPointError(f"epoch {epoch}, step {step}: the loss is {loss.item()}; lower the lr")
            loss.backward()
            norm = clip_by_global_norm(network.parameters(), max_grad_norm)
            optimizer.step()
            history.losses.append(loss.item())
            history.gradient_norms.append(norm.item())
            history.learning_rates.append(optimizer.param_groups[0]["lr"])
        history.validation_losses.append(evaluate(network, *validation)[0])
        if history.validation_losses[-1] < best_loss:
            best_loss, history.best_epoch = history.validation_losses[-1], epoch
            best_weights = copy.deepcopy(network.state_dict())  # state_dict shares memory with the network
        elif epoch - history.best_epoch >= patience:
            break
    network.load_state_dict(best_weights)
    return history
