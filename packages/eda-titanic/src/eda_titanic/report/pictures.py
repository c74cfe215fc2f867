"""Which picture suits which columns: what the report's sections and the page's explorer draw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from dlcommon.runtime.data.cells import CellReader
from dlcommon.runtime.data.table import Table
from dlcommon.runtime.evaluation.classification import accuracy_interval
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.tables.columns import Column, describe

from eda_titanic.problem import pose
from eda_titanic.report import charts
from eda_titanic.report.statistics import levels, ordered_levels, rates

MOST_CLASSES = 8


@dataclass(frozen=True)
class Subject:
    """Holds what is analysed: rows, what their columns hold, and the classes of the target, if there is one."""

    frame: pd.DataFrame
    """The features."""
    columns: list[Column]
    target: str | None = None
    codes: np.ndarray | None = None
    """int64 [rows], an index into `classes`."""
    classes: tuple[str, ...] = ()
    test: pd.DataFrame | None = None
    notes: Sequence[LocalizedText] = ()
    """What a user should know of how the table was read."""

    @property
    def positive(self) -> np.ndarray | None:
        """Whether each row is of the class in question: of two the second, of more the most frequent."""
        return None if self.codes is None else self.codes == self.positive_class

    @property
    def positive_class(self) -> int:
        assert self.codes is not None
        return 1 if len(self.classes) == 2 else int(np.bincount(self.codes).argmax())

    @property
    def positive_name(self) -> str:
        return self.classes[self.positive_class] if self.classes else ""

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)


def subject_of(table: Table) -> Subject:
    """Prepares a table with a target for the report: a number with many values is split at its median.

    Raises:
        UserError: the target cannot be told apart (see `problem.pose`).
    """
    problem = pose(table)
    frame = table.train[table.features]
    return Subject(
        frame, problem.columns, table.target, problem.target, tuple(problem.classes), table.test, table.notes
    )


def without_target(
    frame: pd.DataFrame, readers: Mapping[str, CellReader] | None = None, notes: Sequence[LocalizedText] = ()
) -> Subject:
    return Subject(frame, describe(frame, readers), notes=notes)


def distribution(subject: Subject, name: str) -> str:
    """Draws one column's counts: numbers by class where there is a target, free text by its length."""
    column, values = subject.column(name), subject.frame[name]
    if column.kind == "number":
        shown = column.shown if column.is_date else charts.number
        return charts.histogram(values.to_numpy(float), name, subject.classes, subject.codes, shown)
    if column.kind == "text":
        lengths = values.dropna().str.len().to_numpy(float)
        return charts.histogram(lengths, f"{name}: length", ())
    named = levels(values, column)
    order = ordered_levels(named, values, column)
    counts = [int((named == level).sum()) for level in order]
    return charts.proportion_bars(order, [count / len(named) for count in counts], counts, name, kind="c0")


def by_target(subject: Subject, name: str) -> str | None:
    """Draws the share of the class in question on each level of a column; None for free text, or without a target."""
    column, positive = subject.column(name), subject.positive
    if positive is None or column.kind == "text":
        return None
    found = rates(subject.frame[name], column, positive)
    return charts.proportion_bars(
        [rate.level for rate in found], [rate.share for rate in found], [rate.n for rate in found],
        f"{subject.positive_name} by {name}", [(rate.low, rate.high) for rate in found], float(positive.mean()),
    )  # fmt: skip


def two_columns(subject: Subject, first: str, second: str) -> str:
    """Draws two columns against each other, and the target in colour."""
    left, right = subject.column(first), subject.column(second)
    a, b = subject.frame[first], subject.frame[second]
    if left.kind == right.kind == "number" and min(left.distinct, right.distinct) > 8:
        return charts.scatter(a.to_numpy(float), b.to_numpy(float), (first, second), subject.classes, subject.codes)
    if subject.positive is None and {left.kind, right.kind} == {"number", "category"}:
        numbers, groups, label = (a, b, first) if left.kind == "number" else (b, a, second)
        order = [str(level) for level in groups.value_counts().index[:MOST_CLASSES]]
        return charts.boxes(order, [numbers[groups == level].to_numpy(float) for level in order], label)
    return cross_table(subject, first, second)


def cross_table(subject: Subject, first: str, second: str) -> str:
    """Draws two columns as levels: the share of the class in question, else counts, in each cell."""
    named = [levels(subject.frame[name], subject.column(name)) for name in (first, second)]
    orders = [
        ordered_levels(those, subject.frame[name], subject.column(name))
        for those, name in zip(named, (first, second), strict=True)
    ]
    values = np.full((len(orders[0]), len(orders[1])), np.nan)
    texts = [["" for _ in orders[1]] for _ in orders[0]]
    for r, row in enumerate(orders[0]):
        for c, column in enumerate(orders[1]):
            chosen = ((named[0] == row) & (named[1] == column)).to_numpy()
            n = int(chosen.sum())
            if not n:
                continue
            if subject.positive is None:
                values[r, c], texts[r][c] = n, f"{n:,}"
            else:
                hits = int(subject.positive[chosen].sum())
                low, high = accuracy_interval(hits, n)
                values[r, c] = hits / n
                texts[r][c] = f"{hits / n:.0%} ({hits} of {n}, 95 % interval {low:.0%} to {high:.0%})"
    highest = 1.0 if subject.positive is not None else float(np.nanmax(values))
    what = f"{subject.positive_name}: {first} × {second}" if subject.positive is not None else f"{first} × {second}"
    return charts.heat(orders[0], orders[1], values, texts, what, 0.0, highest)
