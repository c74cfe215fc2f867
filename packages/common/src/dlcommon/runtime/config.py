"""The options of a run: one dataclass, whose fields are the command line's flags."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from dlcommon.runtime.bounds import Count, Fraction, Ge, Lt, NotNegative, Positive, check_bounds
from dlcommon.runtime.errors import UsageError
from dlcommon.runtime.files import read_json, write_json

Precision = Literal["auto", "fp32", "bf16"]
Tracker = Literal["tensorboard", "wandb", "mlflow", "trackio"]


def flag_of(name: str) -> str:
    """Returns the flag that sets an option."""
    return f"--{name.replace('_', '-')}"


def as_flags(values: Mapping[str, Any]) -> list[str]:
    """Writes options as the words of a command line that sets them."""
    words: list[str] = []
    for name, value in values.items():
        if isinstance(value, bool):
            words.append(flag_of(name if value else f"no_{name}"))
        elif isinstance(value, tuple):
            words += [flag_of(name), *map(str, value)]
        else:
            words += [flag_of(name), str(value)]
    return words


@dataclass(frozen=True)
class RunConfig:
    """Options that every run has."""

    renamed: ClassVar[Mapping[str, str]] = {}
    """Options of earlier versions to what they are called now."""
    data: str | None = None
    """Data set; by default the real one, or the built-in sample where that is unavailable."""
    seed: Annotated[int, Ge(0), Lt(2**63)] = 0
    """Seed of everything random: splits, weights, order, augmentation."""

    def __post_init__(self) -> None:
        check_bounds(self)

    def save(self, path: Path) -> None:
        write_json(path, dataclasses.asdict(self))

    def changes_from(self, defaults: Self) -> dict[str, Any]:
        """Returns the options in which this config differs from the defaults."""
        names = [field.name for field in dataclasses.fields(self)]
        return {name: getattr(self, name) for name in names if getattr(self, name) != getattr(defaults, name)}

    @classmethod
    def load(cls, path: Path) -> Self:
        """Loads a config that `save` wrote, also one of an earlier version whose options had other names.

        Raises:
            UsageError: the file holds a field that this version does not know, or a value it refuses.
        """
        return cls.from_dict(read_json(path), origin=str(path))

    @classmethod
    def from_dict(cls, values: object, origin: str) -> Self:
        """Makes a config of what JSON holds.

        Raises:
            UsageError: that is no object, or as for `load`; the message begins with the origin.
        """
        if not isinstance(values, dict):
            raise UsageError(f"{origin} is damaged: it holds no options; restore it from a copy, or train a new run")
        options: dict[str, Any] = {
            cls.renamed.get(name, name): tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(options) - known):
            raise UsageError(f"{origin}: unknown option {', '.join(unknown)} for {cls.__qualname__}")
        try:
            return cls(**options)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{origin}: {error}") from error


@dataclass(frozen=True)
class TrainConfig(RunConfig):
    """Options that every training loop shares; a capstone's own config adds its fields below these."""

    renamed: ClassVar[Mapping[str, str]] = {"accumulate": "gradient_accumulation_steps", "clip_norm": "max_grad_norm"}
    epochs: Positive = 10.0
    """Passes over the training set."""
    min_steps: Annotated[int, Ge(0)] = 0
    """Optimizer steps at least: a data set too small for them is passed over more often than `epochs` says."""
    max_minutes: Positive | None = None
    """Time budget from the first step on: the schedule ends with it or with the epochs."""
    batch_size: Count = 512
    """Samples for one optimizer step (over all processes), before accumulation."""
    gradient_accumulation_steps: Count = 1
    """Batches whose gradients are averaged before one optimizer step."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    precision: Precision = "auto"
    """bf16 autocast, or fp32; auto takes bf16 where the hardware computes in it."""
    compile: bool = False
    """Compile the network with torch.compile."""
    shard: bool = False
    """Split weights, gradients and optimizer state over the processes (FSDP), instead of copying them to each."""
    max_grad_norm: Positive | None = None
    """Clip the gradient's global norm to this."""
    ema_decay: Fraction = 0.0
    """Decay per step of the weights' exponential moving average; 0 turns it off."""
    evaluate_every: Positive = 1.0
    """Epochs between evaluations on the validation set."""
    patience: Count | None = None
    """Stop after this many evaluations without a better one."""
    checkpoint_minutes: NotNegative = 2.0
    """Minutes between checkpoints."""
    trackers: tuple[Tracker, ...] = ()
    """Experiment trackers to log to."""
