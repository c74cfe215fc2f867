"""Random numbers of a wanted distribution from uniform ones."""

import numpy as np


def exponential_by_inverse(rate: float, size: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Inverse-transform sampling: if U is uniform, F⁻¹(U) has the distribution function F; here −log(1 − U) / rate."""
    return -np.log1p(-random.random(size)) / rate


def categorical_by_inverse(probabilities: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """The same for classes: U falls on one of the steps of the cumulated probabilities [classes]. Integers [size]."""
    cumulated = np.cumsum(probabilities)
    return np.searchsorted(cumulated, random.random(size) * cumulated[-1], side="right")


def gumbel_max(logits: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """Classes with probability softmax(logits): the largest of logits + Gumbel noise (Gumbel 1954).

    No normalization is needed, and the noise can be drawn without knowing the logits [classes]. Integers [size].
    """
    noise = -np.log(-np.log1p(-random.random((size, len(logits)))))
    return (logits + noise).argmax(axis=1)


def box_muller(size: int, random: np.random.Generator) -> np.ndarray:
    """Standard normal numbers [size]: uniform angle, radius √(−2 log U) (Box & Muller 1958)."""
    half = (size + 1) // 2
    radius = np.sqrt(-2 * np.log1p(-random.random(half)))
    angle = 2 * np.pi * random.random(half)
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:size]
