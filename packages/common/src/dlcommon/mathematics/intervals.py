"""Confidence intervals: ranges that hold the truth in a stated share of repetitions."""

from collections.abc import Callable

import numpy as np
from scipy.special import ndtri


def wald_interval(successes: np.ndarray, n: int, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """p̂ ± z √(p̂ (1 − p̂) / n): the textbook's, whose width is zero at p̂ = 1. Covers too little near 0 and 1."""
    share, z = np.asarray(successes) / n, ndtri((1 + confidence) / 2)
    half = z * np.sqrt(share * (1 - share) / n)
    return share - half, share + half


def wilson_interval(successes: np.ndarray, n: int, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """All p that a test would not reject: |p̂ − p| ≤ z √(p (1 − p) / n), solved for p (Wilson 1927)."""
    share, z = np.asarray(successes) / n, ndtri((1 + confidence) / 2)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


def bootstrap_interval(
    samples: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    random: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> tuple[float, float]:
    """Percentiles of the statistic over samples drawn again with replacement (Efron 1979).

    Args:
        samples: [n, ...].
        statistic: from [resamples, n, ...] to [resamples].
    """
    drawn = random.integers(len(samples), size=(resamples, len(samples)))
    low, high = np.quantile(statistic(samples[drawn]), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
