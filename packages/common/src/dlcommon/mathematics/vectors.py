"""Lengths, angles, distances and projections.

Vectors lie along the last axis; functions of two sets compare every vector of one with every vector of the other by a
single matrix product, which is how search and attention do it.
"""

import math

import numpy as np

from dlcommon.mathematics.decompositions import householder_qr


def norm(vectors: np.ndarray, order: float = 2.0) -> np.ndarray:
    """The p-norm (Σ |xᵢ|ᵖ)^(1/p), for p = ∞ the largest |xᵢ|.

    Args:
        vectors: [..., dimensions].
        order: p, at least 1; below 1 the triangle inequality fails.

    Returns:
        [...].

    Raises:
        ValueError: p is below 1.
    """
    if not order >= 1:
        raise ValueError(f"a norm's order is at least 1, not {order}")
    magnitudes = np.abs(vectors)
    if order == 1:
        return magnitudes.sum(axis=-1)
    largest = magnitudes.max(axis=-1, initial=0.0)
    if math.isinf(order):
        return largest
    # Powers of numbers of at most 1: squaring 1e200 would overflow.
    scale = np.where(largest > 0, largest, 1.0)
    return scale * ((magnitudes / scale[..., None]) ** order).sum(axis=-1) ** (1 / order)


def cosine_similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of the angle between each vector of a [n, dimensions] and each of b [m, dimensions], as [n, m].

    Raises:
        ValueError: a vector is zero, and so has no direction.
    """
    lengths_a, lengths_b = norm(a), norm(b)
    if not (lengths_a.all() and lengths_b.all()):
        raise ValueError("a zero vector has no direction; leave it out")
    return (a / lengths_a[:, None]) @ (b / lengths_b[:, None]).T


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """‖aᵢ − bⱼ‖² = ‖aᵢ‖² + ‖bⱼ‖² − 2 aᵢ·bⱼ, of a [n, dimensions] and b [m, dimensions], as [n, m].

    Nearly all the work is one matrix product. The price is cancellation: a squared distance far below the squared
    lengths loses digits, and would come out slightly negative but for the clamp.
    """
    return np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T, 0.0)


def project(vectors: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """The nearest points of a subspace: Q Qᵀ x.

    Args:
        vectors: [dimensions, ...].
        basis: [dimensions, rank], columns that span the subspace, independent but not necessarily orthogonal.
    """
    q, _ = householder_qr(basis)
    return q @ (q.T @ vectors)
