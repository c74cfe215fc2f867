"""From held-out log prices to figures with their errors."""

from typing import Any

import numpy as np
from dlcommon.runtime.evaluation.result import Evaluation
from dlcommon.runtime.tables.cross_validation import corrected_standard_error

from house_prices.ladder import LADDER, RUNGS
from house_prices.problem import Problem
from house_prices.validation import blend_weights, covered, fold_scores, paired, rmsle, splits, stacked

LARGE = 4000
"""Square feet above ground beyond which De Cock, who published the data, advises to leave sales out: the largest of
them were not sold at the market's price."""
RESAMPLES = 2000


def measures(log_errors: np.ndarray, prices: np.ndarray) -> dict[str, float]:
    """Computes the metrics from log prices' errors [rows] and the true prices in dollars."""
    relative = np.abs(np.expm1(log_errors))
    return {
        "rmsle": rmsle(log_errors),
        "median_relative_error": float(np.median(relative)),
        "mean_absolute_error": float((relative * prices).mean()),
    }


def apparent(problem: Problem, prices: np.ndarray) -> Evaluation:
    """Evaluates the model's prices [rows, 1] on the rows as they are."""
    errors = np.log(prices[:, 0].astype(np.float64)) - problem.log_prices
    found = measures(errors, np.exp(problem.log_prices))
    return Evaluation(
        len(errors), found, {}, {"rmsle": bootstrap(errors[None])}, {"neighborhoods": by_place(problem, errors)}
    )


def cross_validated(problem: Problem, facts: dict[str, Any], coverage: float) -> Evaluation:
    """Averages over the repetitions of a cross-validation: the blend with weights that other folds chose, and each
    rung alone, paired over the same folds."""
    prices, logs = np.exp(problem.log_prices), problem.log_prices
    by_repeat: dict[str, list[np.ndarray]] = {rung: [] for rung in RUNGS}
    by_fold: dict[str, list[float]] = {rung: [] for rung in RUNGS}
    inside, halves, weights = [], [], []
    for repeat, rows in enumerate(facts["out_of_fold"]):
        predictions = np.array(rows)
        tests = [test for _, test in splits(len(logs), facts["folds"], facts["seed"] + repeat)]
        blend = stacked(predictions, logs, tests)
        for rung, values in zip(RUNGS, [*predictions.T, blend], strict=True):
            by_repeat[rung].append(values - logs)
            by_fold[rung] += fold_scores(values - logs, tests)
        within, half = covered(predictions, blend, logs, tests, coverage)
        inside.append(within)
        halves.append(half)
        weights.append(blend_weights(predictions, logs))
    errors = np.stack(by_repeat["blend"])  # [repeats, rows]
    ordinary = problem.arrays["GrLivArea"][:, 0] <= LARGE
    each = [measures(one, prices) for one in errors]
    metrics = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
    metrics["rmsle_standard_error_of_splits"] = corrected_standard_error(by_fold["blend"], facts["folds"])
    metrics["rmsle_up_to_4000_square_feet"] = float(np.mean([rmsle(one[ordinary]) for one in errors]))
    metrics["interval_coverage"] = float(np.mean(inside))
    metrics["interval_median_half_width"] = float(np.median(np.expm1(np.stack(halves))))
    ladder: dict[str, dict[str, Any]] = {
        rung: {
            "rmsle": float(np.mean([rmsle(one) for one in by_repeat[rung]])),
            "rmsle_up_to_4000_square_feet": float(np.mean([rmsle(one[ordinary]) for one in by_repeat[rung]])),
            "weight": float(np.mean(weights, axis=0)[LADDER.index(rung)]) if rung in LADDER else 1.0,
            "rmsle_above_blend": paired(by_fold["blend"], by_fold[rung], facts["folds"]),
        }
        for rung in RUNGS
    }
    shown = [
        {
            "model": rung,
            "RMSLE": row["rmsle"],
            "up to 4,000 sq ft": row["rmsle_up_to_4000_square_feet"],
            "weight": row["weight"],
            "RMSLE above the blend": row["rmsle_above_blend"]["difference"],
            "standard error": row["rmsle_above_blend"]["standard_error"],
        }
        for rung, row in ladder.items()
    ]
    mean = errors.mean(axis=0)
    tables = {
        "ladder": ladder,
        "coverage": {"wanted": coverage, **coverage_by_price(np.stack(inside), prices)},
        "neighborhoods": by_place(problem, mean),
        "errors": {"price": prices.tolist(), "predicted": np.exp(logs + mean).round().tolist()},
    }
    intervals = {"rmsle": bootstrap(errors)}
    return Evaluation(len(logs), metrics, {}, intervals, tables, {"Models on rows that were left out": shown})


def bootstrap(log_errors: np.ndarray) -> tuple[float, float]:
    """Returns 95 % of the RMSLE's values when the rows are resampled with replacement; log errors [repeats, rows]."""
    squares = np.square(log_errors).mean(axis=0)
    random = np.random.default_rng(0)
    drawn = random.integers(0, len(squares), (RESAMPLES, len(squares)))
    low, high = np.quantile(np.sqrt(squares[drawn].mean(axis=1)), (0.025, 0.975))
    return float(low), float(high)


def coverage_by_price(inside: np.ndarray, prices: np.ndarray) -> dict[str, list[float]]:
    """Measures the share of prices within their interval, in each fifth of the houses, cheapest first."""
    fifths = np.array_split(np.argsort(prices), 5)
    return {"by_fifth_of_price": [float(inside[:, rows].mean()) for rows in fifths]}


def by_place(problem: Problem, log_errors: np.ndarray) -> dict[str, dict[str, float]]:
    """Returns houses, RMSLE and bias (positive: too high) of each neighbourhood, the largest error first."""
    names = problem.arrays["Neighborhood"][:, 0]
    found = {}
    for name in sorted(set(names)):
        own = log_errors[names == name]
        found[str(name)] = {"houses": len(own), "rmsle": rmsle(own), "bias": float(own.mean())}
    return dict(sorted(found.items(), key=lambda item: -item[1]["rmsle"]))
