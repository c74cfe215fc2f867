"""Sampling from a distribution by transforming uniform random numbers."""

import numpy as np


def exponential_by_inverse(rate: float, size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Samples an exponential distribution as −log(1 − U) / rate.

    This is inverse-transform sampling: if U is uniform, F⁻¹(U) has the distribution function F.
    """
    return -np.log1p(-rng.random(size)) / rate


def categorical_by_inverse(probabilities: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Samples classes, integers [size], by the step of the cumulative probabilities [num_classes] that U falls on."""
    cumulative = np.cumsum(probabilities)
    result: np.ndarray = np.searchsorted(cumulative, rng.random(size) * cumulative[-1], side="right")
    return result


def gumbel_max(logits: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Samples classes, integers [size], from softmax(logits), as the argmax of logits + Gumbel noise (Gumbel 1954).

    No normalization is needed, and the noise can be drawn without knowing the logits [num_classes].
    """
    # Gumbel noise is −log(−log U), [size, num_classes].
    noise = -np.log(-np.log1p(-rng.random((size, len(logits)))))
    result: np.ndarray = (logits + noise).argmax(axis=1)
    return result


def box_muller(size: int, rng: np.random.Generator) -> np.ndarray:
    """Samples standard normal numbers [size], in pairs of uniform angle and radius √(−2 log U) (Box & Muller 1958)."""
    # Every pair of uniform numbers gives two independent normal ones; 1 − U keeps log away from 0.
    half = (size + 1) // 2
    radius = np.sqrt(-2 * np.log1p(-rng.random(half)))
    angle = 2 * np.pi * rng.random(half)
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:size]
