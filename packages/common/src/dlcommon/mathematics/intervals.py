"""Confidence intervals: ranges that contain the true value in a stated fraction of repetitions."""

from collections.abc import Callable

import numpy as np
from scipy.special import ndtri


def wald_interval(successes: np.ndarray, n: int, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Computes p̂ ± z √(p̂ (1 − p̂) / n), the normal approximation.

    Its width is zero at p̂ = 1, and its coverage too small near 0 and 1.
    """
    p_hat, z = np.asarray(successes) / n, ndtri((1 + confidence) / 2)
    half = z * np.sqrt(p_hat * (1 - p_hat) / n)
    return p_hat - half, p_hat + half


def wilson_interval(successes: np.ndarray | int, n: int, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Finds all p that a score test does not reject: |p̂ − p| ≤ z √(p (1 − p) / n), solved for p (Wilson 1927)."""
    p_hat, z = np.asarray(successes) / n, ndtri((1 + confidence) / 2)
    center = (p_hat + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p_hat * (1 - p_hat) / n + z**2 / (4 * n**2))
    return center - half, center + half


def bootstrap_interval(
    samples: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    rng: np.random.Generator,
    confidence: float = 0.95,
    n_resamples: int = 2000,
) -> tuple[float, float]:
    """Computes percentiles of a statistic over samples redrawn with replacement (Efron 1979).

    Args:
        samples: [n, ...].
        statistic: maps [n_resamples, n, ...] to [n_resamples].
        rng: of the draws.
        confidence: nominal coverage.
        n_resamples: number of draws.
    """
    drawn = rng.integers(len(samples), size=(n_resamples, len(samples)))
    # samples[drawn] is [n_resamples, n, ...]: all resamples at once.
    low, high = np.quantile(statistic(samples[drawn]), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
