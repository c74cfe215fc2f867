"""What transformers' `Trainer` does in each step, as a plain loop: the same losses, rates and weights, step by step.

Only the training itself is here: no logging, evaluation, checkpoints, devices or mixed precision.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dlcommon.training.gradient_clipping import clip_by_global_norm
from dlcommon.training.schedules import linear, set_learning_rate
from dlcommon.transformer.fine_tuning import layerwise_param_groups

Batch = Mapping[str, torch.Tensor]
IGNORED = -100
"""Label that takes no part in the loss."""


@dataclass(frozen=True)
class TrainerConfig:
    """Names the settings of `TrainingArguments` that decide the result; the defaults are its defaults.

    Raises:
        ValueError: a value is out of range.
    """

    learning_rate: float = 5e-5
    """AdamW's, at its peak, for the last part of the network."""
    weight_decay: float = 0.0
    """Decoupled, of matrices; biases and the parameters of normalization are not decayed."""
    warmup_steps: int = 0
    """Optimizer steps with a rising rate; it starts at 0, so that the first step then changes nothing."""
    max_grad_norm: float = 1.0
    """The gradients' global norm is clipped to this; 0: not clipped."""
    num_train_epochs: int = 3
    per_device_train_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    """Batches whose gradients are added up for one optimizer step; the last step of an epoch may have fewer."""
    seed: int = 42
    """Decides the order of the texts, and the dropout."""
    layer_decay: float = 1.0
    """Factor of the rate from each part of the network to the one before; `Trainer` has no such setting."""

    def __post_init__(self) -> None:
        for name in ("num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.warmup_steps < 0 or self.max_grad_norm < 0:
            raise ValueError("warmup_steps and max_grad_norm must not be negative")

    def steps_per_epoch(self, count: int) -> int:
        """Counts the optimizer steps of a pass over `count` examples."""
        batches = math.ceil(count / self.per_device_train_batch_size)
        return math.ceil(batches / self.gradient_accumulation_steps)


@dataclass(frozen=True)
class Step:
    """Records one optimizer step, as `Trainer` logs it with `logging_steps=1`."""

    loss: float
    learning_rate: float
    """Of the last part of the network."""
    grad_norm: float
    """Global norm before clipping."""


def epoch_batches(count: int, epoch: int, config: TrainerConfig) -> list[list[int]]:
    """Draws the order of an epoch, numbered from 0, and cuts it into batches of indices; the last may be smaller.

    The order depends on `seed + epoch` alone, not on the random numbers drawn before, as in accelerate's
    `SeedableRandomSampler`, so that a resumed training can find it again.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(config.seed + epoch)).tolist()
    size = config.per_device_train_batch_size
    return [order[start : start + size] for start in range(0, count, size)]


def accumulate_gradients(model: nn.Module, batches: Sequence[Batch]) -> float:
    """Adds up the gradients of the mean loss over all labels of the batches, however they are divided among them.

    Args:
        model: called with a batch's tensors by name, returns something with a `loss`, the mean over the batch's labels.
        batches: each with `labels`, in which `IGNORED` marks what is not predicted.

    Returns:
        The mean loss.
    """
    counts = [int((batch["labels"] != IGNORED).sum()) for batch in batches]
    total = 0.0
    for batch, count in zip(batches, counts, strict=True):
        # The mean of the batches' means would give the labels of a small batch more weight.
        loss = model(**batch).loss * (count / sum(counts))
        loss.backward()
        total += loss.item()
    return total


def train_step(
    model: nn.Module, batches: Sequence[Batch], optimizer: torch.optim.Optimizer, config: TrainerConfig
) -> tuple[float, float]:
    """Makes one optimizer step: gradients of all batches, clipping, update.

    Returns:
        The mean loss, and the gradients' global norm before clipping.
    """
    loss = accumulate_gradients(model, batches)
    norm = clip_by_global_norm(model.parameters(), config.max_grad_norm or math.inf)
    optimizer.step()
    optimizer.zero_grad()
    return loss, norm.item()


def fine_tune(
    model: nn.Module,
    examples: Sequence[Any],
    collate: Callable[[list[Any]], Batch],
    config: TrainerConfig,
    parts: Sequence[nn.Module] | None = None,
) -> list[Step]:
    """Fine-tunes a model as transformers' `Trainer` does with the same settings.

    Args:
        model: as for `accumulate_gradients`; its parameters that require a gradient are trained.
        examples: what is learned from.
        collate: makes a batch of examples.
        config: the settings.
        parts: the model's parts from the input to the output, for layer-wise rates; `None`: the whole, at one rate.

    Returns:
        One record for each optimizer step.
    """
    groups = layerwise_param_groups(
        parts or [model], config.learning_rate, decay=config.layer_decay, weight_decay=config.weight_decay
    )
    optimizer = torch.optim.AdamW(groups)
    total = config.num_train_epochs * config.steps_per_epoch(len(examples))
    schedule = linear(warmup=min(config.warmup_steps / total, 1.0))
    steps: list[Step] = []
    torch.manual_seed(config.seed)  # the dropout
    model.train()
    for epoch in range(config.num_train_epochs):
        torch.empty((), dtype=torch.int64).random_()  # the seed that a DataLoader draws for its workers
        batches = [
            collate([examples[index] for index in chosen]) for chosen in epoch_batches(len(examples), epoch, config)
        ]
        for start in range(0, len(batches), config.gradient_accumulation_steps):
            multiplier = schedule(len(steps) / total)
            set_learning_rate(optimizer, multiplier)
            loss, norm = train_step(
                model, batches[start : start + config.gradient_accumulation_steps], optimizer, config
            )
            steps.append(Step(loss, config.learning_rate * multiplier, norm))
    return steps
