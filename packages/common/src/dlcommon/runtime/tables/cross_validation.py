"""Cross-validation: standard errors over repeated folds, permutation importance of columns."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from dlcommon.runtime.arrays import Arrays

Part = TypeVar("Part")
Fold = tuple[np.ndarray, np.ndarray]
"""Training and test rows."""


def rows_of(arrays: Arrays, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Selects rows of every array."""
    return {name: values[rows] for name, values in arrays.items()}


def corrected_standard_error(fold_scores: Sequence[float] | np.ndarray, folds: int) -> float:
    """Returns the standard error of the mean over repeated folds, whose training rows overlap.

    The variance over all folds is multiplied by 1/n + test/training rows instead of 1/n (Nadeau and Bengio 2003,
    section 3). Zero where there is one score only.
    """
    scores = np.asarray(fold_scores)
    if len(scores) < 2:
        return 0.0
    return float(np.sqrt((1 / len(scores) + 1 / (folds - 1)) * scores.var(ddof=1)))


def permutation_importance(
    arrays: Arrays,
    folds: Sequence[Fold],
    parts: Mapping[Part, Sequence[str]],
    fit: Callable[[Fold], Callable[[Arrays], float]],
    seed: int,
) -> dict[Part, float]:
    """Measures how much the loss on left-out rows rises when columns are shuffled among them (Breiman 2001).

    Args:
        arrays: all rows, [rows, …] by column.
        parts: name to the columns that are shuffled together.
        fit: trains on a fold's training rows; returns the loss of its test rows, given their arrays.

    Returns:
        The mean rise over all rows, from the most to the least important part.
    """
    random = np.random.default_rng(seed)
    rises = dict.fromkeys(parts, 0.0)
    total = sum(len(test) for _, test in folds)
    for fold in folds:
        loss, rows = fit(fold), rows_of(arrays, fold[1])
        base = loss(rows)
        for part, members in parts.items():
            order = random.permutation(len(fold[1]))
            changed = rows | {name: rows[name][order] for name in members}
            rises[part] += (loss(changed) - base) * len(fold[1]) / total
    return dict(sorted(rises.items(), key=lambda item: -item[1]))
