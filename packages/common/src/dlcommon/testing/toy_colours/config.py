"""Options of the toy's training, and its classes."""

from dataclasses import dataclass

from dlcommon.runtime.config import TrainConfig

CLASSES = ("red", "green", "blue")


@dataclass(frozen=True)
class Config(TrainConfig):
    width: int = 64
    noise: float = 0.0
