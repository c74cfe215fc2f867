"""What a capstone declares about its hyper-parameter search."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dlcommon.runtime.config import RunConfig
from dlcommon.runtime.metric import Metric
from dlcommon.training.search_space import SearchSpace


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
