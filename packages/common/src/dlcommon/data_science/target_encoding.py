"""Target encoding: a category becomes the mean target of the rows that have it (Micci-Barreca 2001)."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TargetEncoding:
    """A number for each category that training rows had, and one for all others."""

    categories: np.ndarray
    """[categories], sorted."""
    values: np.ndarray
    """[categories]."""
    overall: float
    """Mean target, which unknown categories get."""

    @classmethod
    def fit(cls, categories: np.ndarray, targets: np.ndarray, smoothing: float = 1.0) -> "TargetEncoding":
        """Means pulled towards the overall mean ȳ: (Σ y + m ȳ) / (n + m) over the n rows of a category.

        Args:
            categories: [rows], text or integers.
            targets: [rows].
            smoothing: m, how many rows of the overall mean each category is given; 0 trusts a single row fully.

        Raises:
            ValueError: there is no row, the arrays differ in length, or m is negative.
        """
        if len(categories) == 0 or len(categories) != len(targets) or smoothing < 0:
            raise ValueError(f"{len(categories)} categories, {len(targets)} targets, smoothing {smoothing}")
        distinct, number = np.unique(categories, return_inverse=True)
        overall = float(np.mean(targets))
        counts = np.bincount(number)
        sums = np.bincount(number, weights=targets)
        return cls(distinct, (sums + smoothing * overall) / (counts + smoothing), overall)

    def encode(self, categories: np.ndarray) -> np.ndarray:
        """[rows] to the value of each row's category, [rows]."""
        place = np.searchsorted(self.categories, categories).clip(max=len(self.categories) - 1)
        return np.where(self.categories[place] == categories, self.values[place], self.overall)


def cross_fitted(
    categories: np.ndarray,
    targets: np.ndarray,
    folds: Iterable[tuple[np.ndarray, np.ndarray]],
    smoothing: float = 1.0,
) -> np.ndarray:
    """Encodes training rows so that none is encoded with its own target.

    A model that trains on encodings which hold their own rows' targets trusts them too much: of new rows they know
    less.

    Args:
        categories: [rows].
        targets: [rows].
        folds: pairs of row numbers; the second of each pair is encoded by what is fitted on the first. Every row must
            be encoded once.
        smoothing: as in `TargetEncoding.fit`.

    Raises:
        ValueError: a row is encoded twice or not at all.
    """
    encoded = np.full(len(categories), np.nan)
    times = np.zeros(len(categories), dtype=int)
    for known, held_out in folds:
        encoded[held_out] = TargetEncoding.fit(categories[known], targets[known], smoothing).encode(
            categories[held_out]
        )
        times[held_out] += 1
    if not (times == 1).all():
        raise ValueError(f"{(times != 1).sum()} rows are not encoded exactly once")
    return encoded
