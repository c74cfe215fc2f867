"""Target encoding: a category becomes the mean target of the rows that have it (Micci-Barreca 2001)."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TargetEncoding:
    """Maps each category of the training rows to a number, and all other categories to another."""

    categories: np.ndarray
    """Distinct categories, sorted, [categories]."""
    values: np.ndarray
    """Their encodings, [categories]."""
    overall: float
    """Mean target, the encoding of unknown categories."""

    @classmethod
    def fit(cls, categories: np.ndarray, targets: np.ndarray, smoothing: float = 1.0) -> "TargetEncoding":
        """Computes means shrunk toward the overall mean ȳ: (Σ y + m ȳ) / (n + m) over the n rows of a category.

        Args:
            categories: [rows], text or integers.
            targets: [rows].
            smoothing: m, number of rows with the overall mean that are added to each category; 0 adds none.

        Raises:
            ValueError: there is no row, the arrays differ in length, or m is negative.
        """
        if len(categories) == 0 or len(categories) != len(targets) or smoothing < 0:
            raise ValueError(f"{len(categories)} categories, {len(targets)} targets, smoothing {smoothing}")
        # Sums and counts of all categories at once, by their position among the distinct ones.
        distinct, number = np.unique(categories, return_inverse=True)
        overall = float(np.mean(targets))
        counts = np.bincount(number)
        sums = np.bincount(number, weights=targets)
        return cls(distinct, (sums + smoothing * overall) / (counts + smoothing), overall)

    def encode(self, categories: np.ndarray) -> np.ndarray:
        """Encodes each row's category: [rows] to float64 [rows]."""
        # Where a category would be inserted; it is known only if it stands there already.
        place = np.searchsorted(self.categories, categories).clip(max=len(self.categories) - 1)
        return np.where(self.categories[place] == categories, self.values[place], self.overall)


def cross_fit_encode(
    categories: np.ndarray,
    targets: np.ndarray,
    folds: Iterable[tuple[np.ndarray, np.ndarray]],
    smoothing: float = 1.0,
) -> np.ndarray:
    """Encodes training rows so that none is encoded with its own target.

    Encodings that contain their own rows' targets leak them: a model trained on those would rely on them too much.

    Args:
        categories: [rows].
        targets: [rows].
        folds: pairs of row indices, as scikit-learn's splitters yield; the second of each pair is encoded by what is
            fitted on the first. Every row must be encoded once.
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
