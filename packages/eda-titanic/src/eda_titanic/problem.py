"""A table as a problem of classification: inputs, classes, and which rows belong together."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from dlcommon.runtime.data import Table
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.tables.columns import as_arrays, describe
from dlcommon.runtime.tables.problem import TableProblem

from eda_titanic import passengers

MOST_CLASSES = 20
FEWEST_ROWS = 10
"""Of a class that can be learnt and cross-validated."""


@dataclass(frozen=True)
class Problem(TableProblem):
    """Adds the classes to what the models see of a table."""

    target: np.ndarray
    """int64 [rows], an index into `classes`."""
    classes: list[str]
    question: str
    """What is predicted, in words."""

    def question_facts(self) -> list[Any]:
        return [self.classes, self.question]

    @cached_property
    def groups(self) -> np.ndarray | None:
        """Numbers the sets of rows that belong together; None where no such sets are known."""
        return passengers.groups(self.arrays) if passengers.is_passenger_list(self.columns) else None

    def groups_by(self, column: str | None) -> np.ndarray | None:
        """Groups rows by a column's equal values, or, without a column, as far as groups are known.

        Raises:
            UserError: there is no such column.
        """
        if column is None:
            return self.groups
        if column not in self.table.train:
            raise UserError(
                f"--group {column}: there is no such column; choose one of {', '.join(self.table.features)}"
            )
        codes, _ = pd.factorize(self.table.train[column], use_na_sentinel=False)
        return np.asarray(codes)


def pose(table: Table) -> Problem:
    """Turns a table into the problem that it poses.

    Raises:
        UserError: the target is missing in rows, has one class only, more than `MOST_CLASSES` that are not numbers, or
            classes too rare to learn.
    """
    values = table.train[table.target]
    if values.isna().any():
        raise UserError(f"{table.target} is missing in {int(values.isna().sum())} rows; leave those rows out")
    numeric = pd.api.types.is_numeric_dtype(values)
    if numeric and values.nunique() > MOST_CLASSES:
        median = float(values.median())
        target, classes = (values > median).to_numpy(np.int64), [f"at most {median:g}", f"above {median:g}"]
        question = f"is {table.target} above its median of {median:g}?"
    else:
        levels = sorted(values.unique())
        if len(levels) > MOST_CLASSES:
            raise UserError(
                f"{table.target} has {len(levels)} different values; a target has at most {MOST_CLASSES} classes, or "
                f"is a number"
            )
        target = values.map({level: place for place, level in enumerate(levels)}).to_numpy(np.int64)
        classes = [f"{level:g}" if numeric else str(level) for level in levels]
        question = f"which {table.target}?"
    counts = np.bincount(target, minlength=len(classes))
    if len(classes) < 2 or counts.min() < FEWEST_ROWS:
        rarest = f"{classes[int(counts.argmin())]!r} only {counts.min()}"
        raise UserError(f"every class of {table.target} needs {FEWEST_ROWS} rows to learn from; {rarest}")
    columns = describe(table.train[table.features], table.readers)
    if passengers.is_passenger_list(columns) and classes == ["0", "1"]:
        classes, question = ["died", "survived"], "who survived?"
    return Problem(table, columns, as_arrays(table.train, columns), target, classes, question)
