"""Options of `house-prices train`, and its presets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from dlcommon.runtime.bounds import Count, Ge, Gt, Le, Lt
from dlcommon.runtime.config import RunConfig
from dlcommon.runtime.metric import Metric
from dlcommon.runtime.tuning.search_space import Tuning
from dlcommon.training.search_space import Integers, Uniform


@dataclass(frozen=True)
class Config(RunConfig):
    """Configures a run; the default cross-validates the ladder of models five times and fits the blend on all rows."""

    repeats: Count = 5
    """Repetitions of the cross-validation, each with folds of its own."""
    folds: Annotated[int, Ge(2), Le(50)] = 5
    """Parts that the rows are cut into."""
    trees: Count = 1500
    """Boosted trees of each member."""
    tree_rate: Annotated[float, Gt(0), Le(1)] = 0.04
    """Boosting's learning rate."""
    epochs: Count = 40
    """Passes of each network over the training rows."""
    members: Count = 4
    """Models of one kind, with different seeds, whose mean is taken: of the trees and of the networks."""
    coverage: Annotated[float, Ge(0.5), Lt(1)] = 0.9
    """Share of houses whose price shall lie within the interval."""


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "fast": {"repeats": 1, "trees": 600, "tree_rate": 0.08, "epochs": 15, "members": 1}
}

TUNING = Tuning(
    metric=Metric("validation_rmsle", "minimize", unit="plain"),
    space={
        "trees": Integers(200, 3000, log=True),
        "tree_rate": Uniform(0.01, 0.2, log=True),
        "epochs": Integers(5, 80, log=True),
    },
    settings={"repeats": 2},
)
