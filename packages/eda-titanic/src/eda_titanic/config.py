"""Options of `eda-titanic train`, and its presets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from dlcommon.runtime.bounds import Count, Ge, Le
from dlcommon.runtime.config import RunConfig
from dlcommon.runtime.metric import Metric
from dlcommon.runtime.tuning.search_space import Tuning
from dlcommon.training.search_space import Choice, Integers

MOST_ROWS = 20_000
"""Rows of a user's table that models are fitted on by default."""
Folds = Annotated[int, Ge(2), Le(50)]


@dataclass(frozen=True)
class Config(RunConfig):
    """Configures a run; the default cross-validates the ladder of models and fits the best rung on all rows."""

    csv: str | None = None
    """Your own table: a CSV file with a header line."""
    target: str | None = None
    """The column of --csv to predict; a number with many values is split at its median."""
    group: str | None = None
    """A column of --csv whose equal values tie rows together, to be kept on one side of a split."""
    rows: Annotated[int, Ge(100)] = MOST_ROWS
    """Of a longer --csv this many rows are drawn at random, and the run says so."""
    repeats: Count = 5
    """Repetitions of the nested cross-validation, each with folds of its own."""
    folds: Folds = 5
    """Outer folds; the settings of each are chosen by inner folds of its training rows."""
    inner_folds: Folds = 4
    """Inner folds."""
    companions: bool = True
    """Let a passenger list's model know how the training rows' companions fared."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.csv is not None and self.target is None:
            raise ValueError("--csv needs --target, the column to predict (`eda-report FILE` analyses without one)")
        if self.csv is None and (self.target is not None or self.group is not None):
            raise ValueError("--target and --group name columns of --csv FILE, which is missing")


PRESETS: Mapping[str, Mapping[str, Any]] = {"fast": {"repeats": 1, "folds": 4, "inner_folds": 2}}

TUNING = Tuning(
    metric=Metric("validation_accuracy"),
    space={"companions": Choice((True, False)), "inner_folds": Integers(2, 8)},
    settings={"repeats": 2},
)
