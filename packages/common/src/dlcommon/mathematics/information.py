"""Entropy and divergences (Shannon 1948; Kullback & Leibler 1951; Lin 1991), in nats.

Distributions are arrays that sum to one along the last axis; leading axes are a batch. 0 log 0 is 0, and what is
impossible under q but not under p makes the divergence infinite.
"""

import numpy as np


def entropy(p: np.ndarray) -> np.ndarray:
    """H(p) = −Σ p log p: the least mean number of nats that a symbol can be coded in.

    Raises:
        ValueError: p is not a distribution.
    """
    return cross_entropy(p, p)


def cross_entropy(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """H(p, q) = −Σ p log q: what symbols of p cost in the code made for q.

    Raises:
        ValueError: p or q is not a distribution.
    """
    p, q = _distribution(p), _distribution(q)
    with np.errstate(divide="ignore", invalid="ignore"):  # log 0 and 0 · ∞, both settled by `where`
        return -np.where(p > 0, p * np.log(q), 0.0).sum(axis=-1)


def kl_divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """KL(p‖q) = Σ p log(p / q) = H(p, q) − H(p) ≥ 0: the price of believing q.

    Raises:
        ValueError: p or q is not a distribution.
    """
    p, q = _distribution(p), _distribution(q)
    with np.errstate(divide="ignore", invalid="ignore"):
        # log p − log q and not H(p, q) − H(p): where p ≈ q nearly all of that difference would cancel.
        return np.where(p > 0, p * (np.log(p) - np.log(q)), 0.0).sum(axis=-1)


def js_divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Jensen–Shannon: mean divergence of p and q from their mixture. Symmetric, finite, at most log 2."""
    mixture = (np.asarray(p) + np.asarray(q)) / 2
    return (kl_divergence(p, mixture) + kl_divergence(q, mixture)) / 2


def mutual_information(joint: np.ndarray) -> np.ndarray:
    """I(X; Y) = KL(p(x, y) ‖ p(x) p(y)): what one variable tells of the other.

    Args:
        joint: [..., x, y], sums to one over both.
    """
    joint = np.asarray(joint, dtype=np.float64)
    independent = joint.sum(axis=-1, keepdims=True) * joint.sum(axis=-2, keepdims=True)
    flat = (*joint.shape[:-2], -1)
    return kl_divergence(joint.reshape(flat), independent.reshape(flat))


def gaussian_kl(
    mean: np.ndarray, std: np.ndarray, other_mean: np.ndarray | float = 0.0, other_std: np.ndarray | float = 1.0
) -> np.ndarray:
    """KL(N(μ, σ²) ‖ N(m, s²)) = log(s / σ) + (σ² + (μ − m)²) / 2s² − ½, of each element.

    Against the standard normal it is the regularizer of a variational autoencoder (Kingma & Welling 2014, appendix B).
    """
    return np.log(other_std / std) + (std**2 + (mean - other_mean) ** 2) / (2 * np.square(other_std)) - 0.5


def _distribution(p: np.ndarray) -> np.ndarray:
    p = np.asarray(p, dtype=np.float64)
    if not (p >= 0).all() or not np.allclose(p.sum(axis=-1), 1.0, atol=1e-6):
        raise ValueError("a distribution is not negative and sums to one along the last axis")
    return p
