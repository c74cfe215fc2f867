"""Options of `house-prices train`, and its presets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dlcommon.runtime.config import RunConfig


@dataclass(frozen=True)
class Config(RunConfig):
    """The default cross-validates the ladder of models five times over, and fits the blend on all rows."""

    repeats: int = 5
    """Repetitions of the cross-validation, each with folds of its own."""
    folds: int = 5
    """Parts that the rows are cut into."""
    trees: int = 1500
    """Boosted trees of each member."""
    tree_rate: float = 0.04
    """Boosting's learning rate."""
    epochs: int = 40
    """Passes of each network over the training rows."""
    members: int = 4
    """Models of one kind, with different seeds, whose mean is taken: of the trees and of the networks."""
    coverage: float = 0.9
    """Share of houses whose price shall lie within the interval."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("repeats", "trees", "epochs", "members"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 2 <= self.folds <= 50:
            raise ValueError(f"folds must be between 2 and 50, not {self.folds}")
        if not 0 < self.tree_rate <= 1:
            raise ValueError(f"tree_rate must be above 0 and at most 1, not {self.tree_rate}")
        if not 0.5 <= self.coverage < 1:
            raise ValueError(f"coverage must be at least 0.5 and below 1, not {self.coverage}")


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "fast": {"repeats": 1, "trees": 600, "tree_rate": 0.08, "epochs": 15, "members": 1}
}
