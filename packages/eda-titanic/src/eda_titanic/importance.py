"""Which columns the answers rest on, and the rows that a single answer is compared with."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from dlcommon.runtime.arrays import Arrays
from dlcommon.runtime.tables.columns import Column
from dlcommon.runtime.tables.contributions import MOST_PLAYERS
from dlcommon.runtime.tables.cross_validation import Fold, permutation_importance, rows_of

from eda_titanic.ladder import LADDER, Choice, TableModel
from eda_titanic.passengers import TITLES, is_passenger_list
from eda_titanic.problem import Problem
from eda_titanic.validation import cross_entropy, splits

BACKGROUND_ROWS = 40
PASSENGER_PLAYERS = {
    "Sex and title": ("Sex", "Name"),
    "Class": ("Pclass",),
    "Age": ("Age",),
    "Family aboard": ("SibSp", "Parch"),
    "Ticket": ("Ticket",),
    "Fare": ("Fare",),
    "Cabin": ("Cabin",),
    "Port": ("Embarked",),
}
"""Columns that say the same together: a title contradicts another sex."""


def shuffled_losses(problem: Problem, choice: Choice, folds: int, companions: bool, seed: int) -> dict[str, float]:
    """Measures how much the blend's cross-entropy on held-out rows rises when a column is shuffled among them."""

    def fit(fold: Fold) -> Callable[[Arrays], float]:
        train, test = fold
        model = TableModel(problem.columns, LADDER, choice, companions, seed)
        model.fit(rows_of(problem.arrays, train), problem.target[train])
        return lambda rows: cross_entropy(model.predict_proba(rows), problem.target[test])

    parts = {column.name: [column.name] for column in problem.columns}
    rises = permutation_importance(problem.arrays, splits(problem.target, folds, seed), parts, fit, seed)
    return {name: round(rise, 5) for name, rise in rises.items()}


def players_for(columns: list[Column], importance: dict[str, float]) -> dict[str, list[str]]:
    """Groups the columns whose contributions are told apart: at most twelve groups, the least important as one."""
    names = [column.name for column in columns]
    if is_passenger_list(columns):
        grouped = {player: [name for name in members if name in names] for player, members in PASSENGER_PLAYERS.items()}
        known = {name for members in grouped.values() for name in members}
        grouped["Other columns"] = [name for name in names if name not in known]
        return {player: members for player, members in grouped.items() if members}
    ordered = sorted(names, key=lambda name: -importance.get(name, 0.0))
    if len(names) <= MOST_PLAYERS:
        return {name: [name] for name in ordered}
    first = ordered[: MOST_PLAYERS - 1]
    return {name: [name] for name in first} | {"Other columns": ordered[MOST_PLAYERS - 1 :]}


def background(problem: Problem, players: dict[str, list[str]], seed: int) -> dict[str, list[Any]]:
    """Draws rows to compare an answer with, as JSON by column: the values of each player are drawn on their own.

    So no row is a real one; text is reduced to what the features see of it.
    """
    random = np.random.default_rng(seed)
    frame = problem.table.train
    drawn: dict[str, list[Any]] = {}
    for members in players.values():
        rows = random.choice(len(frame), BACKGROUND_ROWS)
        for name in members:
            values = frame[name].iloc[rows]
            drawn[name] = [None if pd.isna(value) else value for value in values.tolist()]
    for column in problem.columns:
        if column.kind == "text":
            drawn[column.name] = [reduced(column.name, value) for value in drawn[column.name]]
    return drawn


def reduced(column: str, text: str | None) -> str | None:
    """Reduces a name to its title, a cabin to its deck, other text to its presence."""
    if text is None or column == "Ticket":
        return None
    if column == "Name":
        title = next((title for title, pattern in TITLES.items() if re.fullmatch(pattern, text)), "Other")
        return f"—, {title}. —"
    return text[:1] if column == "Cabin" else "—"
