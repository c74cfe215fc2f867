"""Explains an answer by the exact Shapley values of a row's columns, for any model."""

from collections.abc import Callable, Mapping, Sequence
from math import factorial

import numpy as np

from dlcommon.runtime.arrays import Arrays

MOST_PLAYERS = 12
"""2^12 coalitions; beyond, exactness costs too much."""


def shapley_values(
    predict: Callable[[Arrays], np.ndarray],
    row: Mapping[str, np.ndarray],
    background: Arrays,
    players: Mapping[str, Sequence[str]],
) -> tuple[np.ndarray, np.ndarray]:
    """Computes Shapley values (1953) of groups of columns, as Štrumbelj and Kononenko (2010) use them on models.

    A coalition's worth is the mean prediction over the background rows whose columns in the coalition hold the
    row's values. All 2^players coalitions are asked, so nothing is estimated: the values add up to the prediction
    minus the background's mean.

    Args:
        predict: named inputs [samples, …] to numbers [samples, outputs].
        row: one sample's inputs, without the batch axis.
        background: the rows that it is compared with, [rows, …].
        players: name to the columns that enter a coalition together; every column belongs to one of them.

    Returns:
        Values [players, outputs] and the background's mean prediction [outputs].

    Raises:
        ValueError: there are too many players, or the columns are not divided among them.
    """
    count, n = len(players), len(next(iter(background.values())))
    if count > MOST_PLAYERS:
        raise ValueError(f"{count} players have {2**count} coalitions; at most {MOST_PLAYERS} are asked")
    if sorted(name for names in players.values() for name in names) != sorted(background):
        raise ValueError("every column must belong to exactly one player")
    coalitions = np.arange(2**count)
    inputs: dict[str, np.ndarray] = {}
    for player, names in enumerate(players.values()):
        inside = np.repeat(coalitions >> player & 1 == 1, n)  # [coalitions · rows]
        for name in names:
            others = np.tile(background[name], (2**count, *[1] * (background[name].ndim - 1)))
            mask = inside.reshape(-1, *[1] * (others.ndim - 1))
            inputs[name] = np.where(mask, row[name][None], others).astype(others.dtype)
    worth = predict(inputs).reshape(2**count, n, -1).mean(axis=1)  # [coalitions, outputs]
    sizes = np.array([int(coalition).bit_count() for coalition in coalitions])
    weights = np.array([factorial(s) * factorial(count - s - 1) / factorial(count) for s in range(count)])
    values = np.empty((count, worth.shape[1]))
    for player in range(count):
        without = coalitions[coalitions >> player & 1 == 0]
        gains = worth[without | 1 << player] - worth[without]
        values[player] = weights[sizes[without]] @ gains
    return values, worth[0]
