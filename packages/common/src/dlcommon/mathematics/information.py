"""Entropy and divergences (Shannon 1948; Kullback & Leibler 1951; Lin 1991), in nats.

Distributions are arrays that sum to one along the last axis; leading axes are a batch. 0 log 0 is 0, and what is
impossible under q but not under p makes the divergence infinite.
"""

import numpy as np

from dlcommon.mathematics.arrays import Floats


def entropy(p: Floats) -> Floats:
    """Computes H(p) = −Σ p log p, the smallest mean code length of a symbol.

    Raises:
        ValueError: p is not a distribution.
    """
    return cross_entropy(p, p)


def cross_entropy(p: Floats, q: Floats) -> Floats:
    """Computes H(p, q) = −Σ p log q, the mean length of symbols from p in the code made for q.

    Raises:
        ValueError: p or q is not a distribution.
    """
    p, q = _distribution(p), _distribution(q)
    with np.errstate(divide="ignore", invalid="ignore"):  # log 0 and 0 · ∞, both replaced by `where`
        result: Floats = -np.where(p > 0, p * np.log(q), 0.0).sum(axis=-1)
        return result


def kl_divergence(p: Floats, q: Floats) -> Floats:
    """Computes KL(p‖q) = Σ p log(p / q) = H(p, q) − H(p) ≥ 0, the excess length of coding p as if it were q.

    Raises:
        ValueError: p or q is not a distribution.
    """
    p, q = _distribution(p), _distribution(q)
    with np.errstate(divide="ignore", invalid="ignore"):
        # log p − log q and not H(p, q) − H(p): where p ≈ q nearly all of that difference would cancel.
        result: Floats = np.where(p > 0, p * (np.log(p) - np.log(q)), 0.0).sum(axis=-1)
        return result


def js_divergence(p: Floats, q: Floats) -> Floats:
    """Computes the Jensen–Shannon divergence, the mean KL divergence of p and q from their mixture.

    It is symmetric, finite, and at most log 2.
    """
    mixture = (np.asarray(p) + np.asarray(q)) / 2
    return (kl_divergence(p, mixture) + kl_divergence(q, mixture)) / 2


def mutual_information(joint: Floats) -> Floats:
    """Computes I(X; Y) = KL(p(x, y) ‖ p(x) p(y)), the information that one variable has about the other.

    Args:
        joint: [..., x, y], sums to one over both.
    """
    joint = np.asarray(joint, dtype=np.float64)
    independent = joint.sum(axis=-1, keepdims=True) * joint.sum(axis=-2, keepdims=True)
    flat = (*joint.shape[:-2], -1)
    return kl_divergence(joint.reshape(flat), independent.reshape(flat))


def gaussian_kl(mean: Floats, std: Floats, other_mean: Floats | float = 0.0, other_std: Floats | float = 1.0) -> Floats:
    """Computes KL(N(μ, σ²) ‖ N(m, s²)) = log(s / σ) + (σ² + (μ − m)²) / 2s² − ½ for each element.

    Against the standard normal it is the regularizer of a variational autoencoder (Kingma & Welling 2014, appendix B).
    """
    result: Floats = np.log(other_std / std) + (std**2 + (mean - other_mean) ** 2) / (2 * np.square(other_std)) - 0.5
    return result


def _distribution(p: Floats) -> Floats:
    p = np.asarray(p, dtype=np.float64)
    if not (p >= 0).all() or not np.allclose(p.sum(axis=-1), 1.0, atol=1e-6):
        raise ValueError("a distribution is not negative and sums to one along the last axis")
    return p
