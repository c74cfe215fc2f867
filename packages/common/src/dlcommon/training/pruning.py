"""When to end a training that is unlikely to win, and which options mattered among those that were tried."""

from collections.abc import Sequence

import numpy as np


def median_prune(
    losses: Sequence[float], finished: Sequence[Sequence[float]], startup: int = 5, warmup: int = 0
) -> bool:
    """Decides whether to end a training by the median rule.

    It ends if its best loss so far is above the median of what finished trainings had at this step (Golovin et al. 2017
    have the median of running averages).

    Args:
        losses: of this training, one for each step so far.
        finished: losses of the trainings that were completed, of which some may be shorter.
        startup: no training is ended before so many are finished.
        warmup: no training is ended before this step, counted from 0.
    """
    step = len(losses) - 1
    if len(finished) < max(startup, 1) or step < warmup:
        return False
    best = np.nanmin(losses) if not np.isnan(losses).all() else np.nan
    if np.isnan(best):
        return True
    others = [other[step] for other in finished if len(other) > step and not np.isnan(other[step])]
    return bool(others) and bool(best > np.median(others))


def variance_shares(table: np.ndarray) -> tuple[np.ndarray, float]:
    """Splits the variance of a full table of losses into the main effect of each option and their interactions.

    (Functional analysis of variance, the idea of fANOVA: Hutter et al. 2014.) The main effect of an option is the
    variance of the mean loss at each of its values, over all values of the other options.

    Args:
        table: losses [values of the first option, values of the second, …].

    Returns:
        The share of each option, [options], and that of interactions; together they are 1.

    Raises:
        ValueError: all losses are the same, so that there is no variance to explain.
    """
    total = table.var()
    if not total:
        raise ValueError("all losses are the same, so that no option explains a difference")
    axes = range(table.ndim)
    shares = np.array([table.mean(axis=tuple(other for other in axes if other != axis)).var() for axis in axes]) / total
    return shares, float(1 - shares.sum())
