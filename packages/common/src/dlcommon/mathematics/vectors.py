"""Lengths, angles, distances and projections.

Vectors lie along the last axis; functions of two sets compare every vector of one with every vector of the other by a
single matrix product, which is how search and attention do it.
"""

import math

import numpy as np

from dlcommon.mathematics.arrays import Floats
from dlcommon.mathematics.decompositions import householder_qr


def norm(vectors: Floats, p: float = 2.0) -> Floats:
    """Computes the p-norm (Σ |xᵢ|ᵖ)^(1/p), or for p = ∞ the largest |xᵢ|.

    Args:
        vectors: [..., dim].
        p: at least 1; below 1 the triangle inequality fails.

    Returns:
        [...].

    Raises:
        ValueError: p is below 1.
    """
    if not p >= 1:
        raise ValueError(f"the p of a norm is at least 1, not {p}")
    magnitudes = np.abs(vectors)
    if p == 1:
        total: Floats = magnitudes.sum(axis=-1)
        return total
    largest: Floats = magnitudes.max(axis=-1, initial=0.0)
    if math.isinf(p):
        return largest
    # Powers of numbers of at most 1: squaring 1e200 would overflow.
    scale = np.where(largest > 0, largest, 1.0)
    result: Floats = scale * ((magnitudes / scale[..., None]) ** p).sum(axis=-1) ** (1 / p)
    return result


def cosine_similarity(a: Floats, b: Floats) -> Floats:
    """Computes the cosine of the angle between each vector of a [n, dim] and each of b [m, dim]: [n, m].

    Raises:
        ValueError: a vector is zero and has no direction.
    """
    lengths_a, lengths_b = norm(a), norm(b)
    if not (lengths_a.all() and lengths_b.all()):
        raise ValueError("a zero vector has no direction; leave it out")
    return (a / lengths_a[:, None]) @ (b / lengths_b[:, None]).T


def squared_distances(a: Floats, b: Floats) -> Floats:
    """Computes ‖aᵢ − bⱼ‖² = ‖aᵢ‖² + ‖bⱼ‖² − 2 aᵢ·bⱼ for a [n, dim] and b [m, dim]: [n, m].

    Nearly all the work is one matrix product. The price is cancellation: a squared distance far below the squared
    lengths loses digits, and would come out slightly negative but for the clamp.
    """
    result: Floats = np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T, 0.0)
    return result


def project(vectors: Floats, basis: Floats) -> Floats:
    """Projects vectors orthogonally onto a subspace: Q Qᵀ x.

    Args:
        vectors: [dim, ...].
        basis: [dim, rank], columns that span the subspace, independent but not necessarily orthogonal.
    """
    q, _ = householder_qr(basis)
    return q @ (q.T @ vectors)
