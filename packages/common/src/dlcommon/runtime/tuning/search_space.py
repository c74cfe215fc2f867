"""What a capstone declares about its hyper-parameter search."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dlcommon.runtime.config import RunConfig
from dlcommon.runtime.metric import Metric


@dataclass(frozen=True)
class Uniform:
    """Spans the real numbers from `low` to `high`; with `log`, each factor of ten is as likely as another."""

    low: float
    high: float
    log: bool = False

    def contains(self, value: Any) -> bool:
        return isinstance(value, (int, float)) and self.low <= value <= self.high


@dataclass(frozen=True)
class Integers:
    """Spans the whole numbers from `low` to `high`, both included."""

    low: int
    high: int
    log: bool = False

    def contains(self, value: Any) -> bool:
        return isinstance(value, int) and self.low <= value <= self.high


@dataclass(frozen=True)
class Choice:
    """Lists the values to choose among, in no order."""

    values: tuple[Any, ...]

    def contains(self, value: Any) -> bool:
        return value in self.values


SearchSpace = Mapping[str, Uniform | Integers | Choice]
"""Option of `train` to the values that are tried."""


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Declares what `tune` varies and by which figure it chooses."""

    metric: Metric
    """Logged by the training, and measured on data that are neither trained on nor tested on."""
    space: SearchSpace
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Options of every trial that differ from those of `train`, such as a share of the data to validate on."""

    def check(self, config: type[RunConfig]) -> None:
        """Checks that every name is an option of `train`.

        Raises:
            ValueError: one is not.
        """
        known = {option.name for option in dataclasses.fields(config)}
        if unknown := sorted({*self.space, *self.settings} - known):
            raise ValueError(f"{', '.join(unknown)}: no such option of train")
