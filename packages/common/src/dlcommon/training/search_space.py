"""The values that a hyper-parameter may take, as a map from a share in [0, 1] to a value.

The map is the inverse of the distribution function: a share drawn uniformly gives a value drawn from the span, and
evenly spaced shares give the values of a grid.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Uniform:
    """Spans the real numbers from `low` to `high`; with `log`, each factor of ten is as likely as another."""

    low: float
    high: float
    log: bool = False

    def contains(self, value: Any) -> bool:
        return isinstance(value, (int, float)) and self.low <= value <= self.high

    def at(self, share: float) -> float:
        """Returns the value below which this share of the span lies."""
        if self.log:
            return math.exp((1 - share) * math.log(self.low) + share * math.log(self.high))
        return (1 - share) * self.low + share * self.high

    def examples(self) -> tuple[float, ...]:
        """Returns the ends."""
        return self.low, self.high


@dataclass(frozen=True)
class Integers:
    """Spans the whole numbers from `low` to `high`, both included; with `log`, n has the weight of log (n + 1) / n."""

    low: int
    high: int
    log: bool = False

    def contains(self, value: Any) -> bool:
        return isinstance(value, int) and self.low <= value <= self.high

    def at(self, share: float) -> int:
        """Returns the value below or at which this share of the span lies."""
        return min(int(Uniform(self.low, self.high + 1, self.log).at(share)), self.high)

    def examples(self) -> tuple[int, ...]:
        """Returns the ends."""
        return self.low, self.high


@dataclass(frozen=True)
class Choice:
    """Lists the values to choose among, in no order."""

    values: tuple[Any, ...]

    def contains(self, value: Any) -> bool:
        return value in self.values

    def at(self, share: float) -> Any:
        """Returns the value at this share of the list."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    def examples(self) -> tuple[Any, ...]:
        """Returns all values."""
        return self.values


SearchSpace = Mapping[str, Uniform | Integers | Choice]
"""Name of a hyper-parameter to the values that are tried."""
