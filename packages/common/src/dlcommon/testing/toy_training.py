"""A small training for tests of the runtime, in this process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import nn
from torch.nn import functional as F

from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.run_directory import WEIGHTS
from dlcommon.runtime.stored_weights import read_weights
from dlcommon.runtime.training_run import TrainingRun
from dlcommon.training.schedules import linear

GENERATOR = torch.Generator().manual_seed(1)
X = torch.randn(48, 6, generator=GENERATOR)
Y = torch.randint(3, (48,), generator=GENERATOR)


class ToyData:
    """Stands for a located data set."""

    name = "toy"

    def files(self) -> list[Path]:
        return []

    def fingerprint(self) -> str:
        return "0" * 64


def reset_accelerate() -> None:
    """Resets accelerate's process-wide state."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    PartialState._reset_state()


def start(directory: Path | None = None, **options: Any) -> TrainingRun[TrainConfig]:
    reset_accelerate()
    defaults = {"batch_size": 8, "epochs": 2, "device": "cpu", "precision": "fp32"}
    data: Any = ToyData()
    return TrainingRun.start("toy-capstone", TrainConfig(**{**defaults, **options}), data, directory)


def network(dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 3))


def train(
    run: TrainingRun[TrainConfig],
    model: nn.Module | None = None,
    each: Callable[[TrainingRun[TrainConfig], torch.Tensor], None] = lambda run, loss: None,
    lr: float = 0.5,
) -> nn.Module:
    """Trains the model, by default a new `network()`, with a plain loop that calls `each` after every update."""
    model = network() if model is None else model
    with run:
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        model, optimizer = run.prepare(model, optimizer)
        for x, y in run.steps(run.batches(X, Y)):
            with run.forward(model):
                loss = F.cross_entropy(model(x).float(), y)
            run.update(loss, optimizer, schedule=linear(0.2))
            each(run, loss)
        run.finish(model)
    return model


def weights(run: TrainingRun[TrainConfig]) -> dict[str, torch.Tensor]:
    return read_weights(run.directory / WEIGHTS)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float = 0.0) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=tolerance)
