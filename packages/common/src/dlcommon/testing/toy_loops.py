"""Small trainings of the kinds that a single classifier is not: two models, a frozen backbone, batches of tokens."""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from dlcommon.runtime.bucket_batches import BucketBatches
from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.stop_signal import Interrupted
from dlcommon.runtime.training_run import TrainingRun
from dlcommon.testing.toy_training import GENERATOR, ToyData, X, Y, reset_accelerate
from dlcommon.training.muon import Muon
from dlcommon.training.schedules import linear

Each = Callable[[TrainingRun[TrainConfig]], None]
"""Called at the end of every step."""

LENGTHS = torch.randint(2, 13, (40,), generator=GENERATOR).tolist()
SEQUENCES = [torch.randint(1, 9, (length,), generator=GENERATOR) for length in LENGTHS]


class Adapted(nn.Module):
    """Puts a head with two tied matrices on a frozen backbone, which stands for one from an asset."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.backbone = nn.Linear(6, 300).requires_grad_(False)
        self.down, self.up = nn.Linear(300, 4, bias=False), nn.Linear(300, 4)
        self.up.weight = self.down.weight
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = torch.tanh(self.backbone(x))
        logits: torch.Tensor = self.head(self.dropout(self.down(features) + torch.tanh(self.up(features))))
        return logits


def train_classifier(run: TrainingRun[TrainConfig], each: Each, dropout: float = 0.0) -> None:
    """Trains one model with two optimizers on augmented batches."""
    torch.manual_seed(7)
    model: nn.Module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 3))
    first, *rest = model.parameters()
    muon: Any = Muon([first], normalize=True)
    adam: Any = torch.optim.AdamW(rest, lr=0.02)
    model, muon, adam = run.prepare(model, muon, adam)

    def noisy(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return batch + 0.1 * torch.randn(batch.shape, generator=generator)

    for x, y in run.steps(run.batches(X, Y, transform=noisy)):
        with run.forward(model):
            loss = F.cross_entropy(model(x), y)
        run.update(loss, muon, adam, schedule=linear(0.2))
        if run.should_evaluate:
            run.log_evaluation(minimize="loss", loss=loss.item())
        each(run)
    run.finish(model)


def train_gan(run: TrainingRun[TrainConfig], each: Each, dropout: float = 0.0) -> None:
    """Trains two models in turn; keeps the generator's average."""
    torch.manual_seed(7)
    discriminator: nn.Module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))
    generator: nn.Module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 6))
    steppers = [torch.optim.Adam(net.parameters(), lr=0.01) for net in (discriminator, generator)]
    discriminator, generator, *steppers = run.prepare(discriminator, generator, *steppers, average=generator)
    for real, _ in run.steps(run.batches(X, Y)):
        noise = run.local(torch.randn(run.config.batch_size, 4, generator=run.generator("noise")))
        with run.forward(discriminator):
            scores = discriminator(torch.cat([real, generator(noise)]))
            of_real, of_fake = scores.chunk(2)
            d_loss = F.softplus(-of_real).mean() + F.softplus(of_fake).mean()
        run.update(d_loss, steppers[0], name="discriminator_loss")
        with run.forward(generator):
            g_loss = F.softplus(-discriminator(generator(noise))).mean()
        run.update(g_loss, steppers[1], name="generator_loss")
        if run.should_evaluate:
            run.log_evaluation(generator_loss=g_loss.item(), discriminator_loss=d_loss.item())
        each(run)
    run.finish(generator)


def train_adapter(run: TrainingRun[TrainConfig], each: Each, dropout: float = 0.0) -> None:
    """Trains a head on a frozen pretrained backbone."""
    model: Any = Adapted(dropout)
    optimizer: Any = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    model, optimizer = run.prepare(model, optimizer, pretrained=model.backbone)
    for x, y in run.steps(run.batches(X, Y)):
        with run.forward(model):
            loss = F.cross_entropy(model(x), y)
        run.update(loss, optimizer)
        each(run)
    run.finish(model)


def train_tokens(run: TrainingRun[TrainConfig], each: Each, dropout: float = 0.0) -> None:
    """Trains on batches of sequences of different lengths; the loss is a mean over tokens."""
    torch.manual_seed(7)
    model: nn.Module = nn.Sequential(nn.Embedding(9, 8), nn.Dropout(dropout), nn.Linear(8, 9))
    optimizer: Any = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    model, optimizer = run.prepare(model, optimizer)

    def collate(indices: np.ndarray) -> tuple[torch.Tensor, ...]:
        return (nn.utils.rnn.pad_sequence([SEQUENCES[i] for i in indices], batch_first=True),)

    targets = [length - 1 for length in LENGTHS]
    batches = BucketBatches(
        LENGTHS, 30, collate, run.config.seed, targets, 0.5, rank=run.rank, world_size=run.world_size
    )
    for (tokens,) in run.steps(batches):  # [sequences, longest], 0 where there is none
        with run.forward(model):
            logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=0)
        run.update(loss, optimizer)
        if run.should_evaluate:
            run.log_evaluation(loss=1.0)
        each(run)
    run.finish(model)


LOOPS = {
    "classifier": train_classifier,
    "gan": train_gan,
    "adapter": train_adapter,
    "tokens": train_tokens,
}


@dataclass(frozen=True)
class Stop:
    """Ends a training early: the process sends itself a signal at the end of a step."""

    step: int
    signal: signal.Signals

    def __call__(self, run: TrainingRun[TrainConfig]) -> None:
        if run.step == self.step:
            os.kill(os.getpid(), self.signal)


def start(directory: Path | None = None, **options: Any) -> TrainingRun[TrainConfig]:
    """Starts or resumes a toy run on the CPU, with a checkpoint at every step."""
    defaults = {"batch_size": 8, "epochs": 2, "device": "cpu", "precision": "fp32", "ema_decay": 0.5, "seed": 2}
    data: Any = ToyData()
    config = TrainConfig(**{**defaults, "checkpoint_minutes": 0, **options})
    return TrainingRun.start("toy-capstone", config, data, directory)


def run_loop(
    kind: str,
    directory: Path | None = None,
    each: Each = lambda run: None,
    dropout: float = 0.0,
    **options: Any,
) -> TrainingRun[TrainConfig]:
    """Trains one of `LOOPS` in this process."""
    reset_accelerate()
    run = start(directory, **options)
    with run:
        LOOPS[kind](run, each, dropout)
    return run


def rank_main(kind: str, directory: Path | None, stop: Stop | None, dropout: float, options: dict[str, Any]) -> None:
    """Trains one of `LOOPS` as one of several processes; says how many weights this one holds."""
    try:
        run = start(directory, **options)
        with run:
            LOOPS[kind](run, stop or (lambda run: None), dropout)
            parameters = [p for model in run.state.models for p in model.module.parameters()]
    except Interrupted as stopped:
        sys.exit(stopped.exit_code)
    held = sum(getattr(parameter, "to_local", lambda p=parameter: p)().numel() for parameter in parameters)
    (run.directory / f"held-by-{run.rank}-of-{run.world_size}").write_text(str(held))


def unwrap_on_the_first_rank(shard: bool) -> None:
    """Makes the mistake of asking for a whole model on one process only."""
    run = start(shard=shard, ema_decay=0.0)
    with run:
        model = run.prepare(nn.Linear(2, 2))
        if run.is_main:
            run.unwrap_model(model)
        run.log_evaluation(minimize="loss", loss=1.0)
