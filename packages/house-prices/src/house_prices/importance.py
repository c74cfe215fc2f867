"""Which columns the prices rest on, and how the price moves with each."""

from collections.abc import Callable
from typing import Any

import numpy as np
from dlcommon.runtime.arrays import Arrays
from dlcommon.runtime.tables.cross_validation import Fold, permutation_importance, rows_of

from house_prices.config import Config
from house_prices.houses import GROUPS
from house_prices.ladder import HouseModel
from house_prices.problem import Problem
from house_prices.validation import held_out, rmsle, splits

CURVES = 9
"""Columns whose partial dependence is drawn."""
POINTS = 15
SAMPLE = 200
"""Houses that a partial dependence is averaged over."""


def shuffled_errors(problem: Problem, config: Config, weights: np.ndarray) -> dict[str, dict[str, float]]:
    """Measures how much the blend's RMSLE on held-out rows rises when a column, or a group of columns at once, is
    shuffled among them; from the most to the least important."""
    names = {column.name for column in problem.columns}
    parts = {("columns", name): [name] for name in [column.name for column in problem.columns]}
    parts |= {("groups", group): [name for name in members if name in names] for group, members in GROUPS.items()}

    def fit(fold: Fold) -> Callable[[Arrays], float]:
        model, _ = held_out(problem.columns, problem.arrays, problem.log_prices, fold, config, config.seed)
        prices = problem.log_prices[fold[1]]
        return lambda rows: rmsle(model.predict(rows) @ weights - prices)

    folds = splits(len(problem.log_prices), config.folds, config.seed)
    rises = permutation_importance(problem.arrays, folds, parts, fit, config.seed)
    result: dict[str, dict[str, float]] = {"columns": {}, "groups": {}}
    for (kind, part), rise in rises.items():
        result[kind][part] = round(rise, 6)
    return result


def partial_dependence(
    problem: Problem, model: HouseModel, weights: np.ndarray, importance: dict[str, float]
) -> dict[str, list[list[Any]]]:
    """Averages the price over houses when all of them are given one value of a column (Friedman 2001), for the most
    important columns: pairs of value and dollars."""
    random = np.random.default_rng(0)
    n = len(problem.log_prices)
    sample = rows_of(problem.arrays, random.choice(n, min(SAMPLE, n), replace=False))
    kinds = {column.name: column for column in problem.columns}
    curves: dict[str, list[list[Any]]] = {}
    for name in list(importance)[:CURVES]:
        column = kinds[name]
        if column.kind == "category":
            values: list[Any] = list(column.categories)
        else:
            known = problem.arrays[name][~np.isnan(problem.arrays[name])]
            values = sorted({float(v) for v in np.quantile(known, np.linspace(0.02, 0.98, POINTS), method="nearest")})
        curves[name] = []
        for value in values:
            dtype = np.float32 if column.kind == "number" else object
            same = sample | {name: np.full((len(sample[name]), 1), value, dtype)}
            price = float(np.exp(model.predict(same) @ weights).mean())
            curves[name].append([value, round(price)])
    return curves
