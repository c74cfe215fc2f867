"""Nested cross-validation, and the same by whole groups."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from dlcommon.runtime.tables.cross_validation import Fold, rows_of
from dlcommon.runtime.tables.features import Features
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from eda_titanic.ladder import LADDER, RUNGS, SETTINGS, Choice, blocks_for, make_estimator, prepared
from eda_titanic.problem import Problem


def splits(target: np.ndarray, folds: int, seed: int, groups: np.ndarray | None = None) -> list[Fold]:
    """Splits rows into folds with equal shares of every class; groups, where given, stay whole."""
    if groups is None:
        return list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(target, target))
    return list(StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(target, target, groups))


def cross_entropy(probabilities: np.ndarray, target: np.ndarray) -> float:
    return float(-np.log(probabilities[np.arange(len(target)), target].clip(1e-12)).mean())


def choose(problem: Problem, rows: np.ndarray, folds: int, companions: bool, seed: int) -> tuple[Choice, str]:
    """Chooses the best setting of each rung, and the best rung, by cross-entropy over inner folds of these rows."""
    target, arrays = problem.target[rows], rows_of(problem.arrays, rows)
    losses = {rung: np.zeros(len(SETTINGS[rung])) for rung in LADDER}
    predictions = {rung: np.zeros((len(SETTINGS[rung]), len(rows), len(problem.classes))) for rung in LADDER}
    for train, test in splits(target, folds, seed):
        features = Features(blocks_for(problem.columns, companions))
        made, labels = prepared(features, rows_of(arrays, train), target[train])
        held_out = features.transform(rows_of(arrays, test))
        for rung in LADDER:
            for setting in range(len(SETTINGS[rung])):
                estimator = make_estimator(rung, setting, seed)
                estimator.fit(made, labels)
                predictions[rung][setting][test] = estimator.predict_proba(held_out)
    for rung in LADDER:
        losses[rung][:] = [cross_entropy(p, target) for p in predictions[rung]]
    choice = {rung: int(losses[rung].argmin()) for rung in LADDER}
    best = {rung: predictions[rung][choice[rung]] for rung in LADDER}
    scores = {rung: cross_entropy(best[rung], target) for rung in LADDER}
    scores["blend"] = cross_entropy(np.mean(list(best.values()), axis=0), target)
    return choice, min(scores, key=lambda rung: scores[rung])


def fitted_predictions(
    problem: Problem, train: np.ndarray, test: np.ndarray, choice: Choice, companions: bool, seed: int
) -> dict[str, np.ndarray]:
    """Fits every rung on the training rows; returns their probabilities [test rows, classes]."""
    features = Features(blocks_for(problem.columns, companions))
    made, labels = prepared(features, rows_of(problem.arrays, train), problem.target[train])
    held_out = features.transform(rows_of(problem.arrays, test))
    made_by = {}
    for rung in LADDER:
        estimator = make_estimator(rung, choice[rung], seed)
        estimator.fit(made, labels)
        made_by[rung] = estimator.predict_proba(held_out)
    return made_by | {"blend": np.mean(list(made_by.values()), axis=0)}


def outer_fold(
    problem: Problem, train: np.ndarray, test: np.ndarray, folds: int, companions: bool, seed: int
) -> dict[str, Any]:
    """Runs one fold of nested cross-validation: everything is chosen and fitted on its training rows alone."""
    choice, best = choose(problem, train, folds, companions, seed)
    predictions = fitted_predictions(problem, train, test, choice, companions, seed)
    return {
        "rows": test.tolist(),
        "choice": choice,
        "best": best,
        "probabilities": {rung: np.round(predictions[rung], 6).tolist() for rung in RUNGS},
    }


def compared_fold(
    problem: Problem, train: np.ndarray, test: np.ndarray, choice: Choice, companions: Sequence[bool], seed: int
) -> dict[str, Any]:
    """Measures the accuracy of the blend on one fold, with and without the companions' fate."""
    accuracies = {}
    for with_fate in companions:
        predicted = fitted_predictions(problem, train, test, choice, with_fate, seed)["blend"].argmax(axis=1)
        accuracies["with" if with_fate else "without"] = int((predicted == problem.target[test]).sum())
    return {"n": len(test), "correct": accuracies}


def out_of_fold(folds: Sequence[dict[str, Any]], problem: Problem, rung: str | None) -> np.ndarray:
    """Collects the probabilities [rows, classes] of one repetition, each row's from the fold that left it out.

    Args:
        rung: None for the rung that each fold's inner folds chose.
    """
    result = np.full((len(problem.target), len(problem.classes)), np.nan)
    for fold in folds:
        result[fold["rows"]] = fold["probabilities"][rung or fold["best"]]
    assert not np.isnan(result).any(), "a row was in no test fold"
    return result
