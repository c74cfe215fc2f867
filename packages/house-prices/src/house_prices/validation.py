"""Repeated cross-validation, the blend's weights and the interval, all from rows that were left out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from dlcommon.runtime.arrays import Arrays
from dlcommon.runtime.tables.columns import Column
from dlcommon.runtime.tables.cross_validation import Fold, corrected_standard_error, rows_of
from scipy.optimize import nnls
from sklearn.model_selection import KFold

from house_prices.config import Config
from house_prices.ladder import HouseModel, Interval

FOLD_SEED = 100
"""Added to the seed of splits: settings were chosen on splits of other seeds."""
SUM_WEIGHT = 100.0
"""How hard the blend's weights are held to add up to one."""


def splits(rows: int, folds: int, seed: int) -> list[Fold]:
    """Splits rows into folds."""
    return list(KFold(folds, shuffle=True, random_state=FOLD_SEED + seed).split(np.arange(rows)))


def held_out(
    columns: Sequence[Column],
    arrays: Arrays,
    log_prices: np.ndarray,
    fold: Fold,
    config: Config,
    seed: int,
) -> tuple[HouseModel, np.ndarray]:
    """Fits the model on a fold's training rows; returns it and its log prices of the test rows [rows, rungs]."""
    train, test = fold
    model = HouseModel(columns, config, seed).fit(rows_of(arrays, train), log_prices[train])
    return model, model.predict(rows_of(arrays, test))


def blend_weights(predictions: np.ndarray, log_prices: np.ndarray) -> np.ndarray:
    """Finds the weights, positive and of sum one, with which held-out predictions [rows, rungs] err least ("stacking",
    Wolpert 1992; positive weights: Breiman 1996)."""
    rungs = predictions.shape[1]
    centre = log_prices.mean()
    system = np.vstack([predictions - centre, np.full((1, rungs), SUM_WEIGHT)])
    weights, _ = nnls(system, np.append(log_prices - centre, SUM_WEIGHT))
    return np.asarray(weights / weights.sum())


def stacked(predictions: np.ndarray, log_prices: np.ndarray, folds: Sequence[np.ndarray]) -> np.ndarray:
    """Computes the blend's log prices [rows], each fold's with weights that the other folds' rows chose."""
    result = np.empty(len(log_prices))
    for test in folds:
        others = np.setdiff1d(np.arange(len(log_prices)), test)
        result[test] = predictions[test] @ blend_weights(predictions[others], log_prices[others])
    return result


def fit_interval(predictions: np.ndarray, blend: np.ndarray, log_prices: np.ndarray, coverage: float) -> Interval:
    """Fits an interval by conformal prediction with a normalized score (Lei et al. 2018, section 5.2).

    A house on which the rungs disagree gets a wider interval. The scale is the score's quantile among held-out rows,
    with the correction for their number.
    """
    spread = predictions.std(axis=1)
    floor = float(np.median(spread))
    scores = np.sort(np.abs(log_prices - blend) / (floor + spread))
    rank = min(len(scores), int(np.ceil(coverage * (len(scores) + 1))))
    return Interval(floor, float(scores[rank - 1]))


def covered(
    predictions: np.ndarray, blend: np.ndarray, log_prices: np.ndarray, folds: Sequence[np.ndarray], coverage: float
) -> tuple[np.ndarray, np.ndarray]:
    """Tells whether each row's price lies within the interval that the other folds set, and half its width, [rows]."""
    inside, half = np.zeros(len(blend), bool), np.empty(len(blend))
    for test in folds:
        others = np.setdiff1d(np.arange(len(blend)), test)
        interval = fit_interval(predictions[others], blend[others], log_prices[others], coverage)
        half[test] = interval.scale * (interval.floor + predictions[test].std(axis=1))
        inside[test] = np.abs(log_prices[test] - blend[test]) <= half[test]
    return inside, half


def rmsle(errors: np.ndarray) -> float:
    """Computes the root mean squared error of log prices, Kaggle's metric of this competition."""
    return float(np.sqrt(np.mean(np.square(errors))))


def fold_scores(log_errors: np.ndarray, folds: Sequence[np.ndarray]) -> list[float]:
    return [rmsle(log_errors[test]) for test in folds]


def paired(ours: Sequence[float], theirs: Sequence[float], folds: int) -> dict[str, Any]:
    """Theirs minus ours over the same folds: the mean, and its standard error with the correction for training rows
    that folds share (Nadeau and Bengio 2003)."""
    differences = np.subtract(theirs, ours)
    error = corrected_standard_error(differences, folds)
    return {"difference": float(differences.mean()), "standard_error": error}
