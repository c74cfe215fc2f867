"""Which columns the prices rest on, and how the price moves with each."""

from typing import Any

import numpy as np

from house_prices.config import Config
from house_prices.houses import GROUPS
from house_prices.ladder import HouseModel
from house_prices.problem import Problem
from house_prices.validation import held_out, rmsle, rows_of, splits

CURVES = 9
"""Columns whose partial dependence is drawn."""
POINTS = 15
SAMPLE = 200
"""Houses that a partial dependence is averaged over."""


def shuffled_errors(problem: Problem, config: Config, weights: np.ndarray) -> dict[str, dict[str, float]]:
    """How much the blend's RMSLE on held-out rows rises when a column, or a group of columns at once, is shuffled
    among them (Breiman 2001); from the most to the least important."""
    random = np.random.default_rng(config.seed)
    singles = {column.name: [column.name] for column in problem.columns}
    names = set(singles)
    groups = {group: [name for name in members if name in names] for group, members in GROUPS.items()}
    rises = {"columns": dict.fromkeys(singles, 0.0), "groups": dict.fromkeys(groups, 0.0)}
    n = len(problem.log_prices)
    for fold in splits(n, config.folds, config.seed):
        model, predictions = held_out(problem.columns, problem.arrays, problem.log_prices, fold, config, config.seed)
        _, test = fold
        rows, prices = rows_of(problem.arrays, test), problem.log_prices[test]
        base = rmsle(predictions @ weights - prices)
        for kind, parts in (("columns", singles), ("groups", groups)):
            for part, members in parts.items():
                order = random.permutation(len(test))
                changed = rows | {name: rows[name][order] for name in members}
                rise = rmsle(model.predict(changed) @ weights - prices) - base
                rises[kind][part] += rise * len(test) / n
    return {
        kind: {part: round(rise, 6) for part, rise in sorted(parts.items(), key=lambda item: -item[1])}
        for kind, parts in rises.items()
    }


def partial_dependence(
    problem: Problem, model: HouseModel, weights: np.ndarray, importance: dict[str, float]
) -> dict[str, list[list[Any]]]:
    """The mean price over houses when all of them are given one value of a column (Friedman 2001), for the most
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
