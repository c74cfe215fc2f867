"""Distances between two sets of samples by their features: how far generated pictures are from real ones.

None is called FID: that is the Fréchet distance of the features of one certain network, InceptionV3. Shapes: features
[samples, dim] of real and generated pictures, floating-point; sums are computed in float64.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

ROWS = 1024
"""Rows of a matrix of all pairs that are computed at a time."""


@dataclass(frozen=True)
class KernelDistance:
    """Holds an estimate of the squared maximum mean discrepancy; it may be below 0, since it is unbiased."""

    value: float
    standard_error: float


def _kernel_sums(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes the sums of k(x, y) = (x · y / dim + 1)³ over y for each x, and over x for each y."""
    over_y, over_x = np.empty(len(x)), np.zeros(len(y))
    for start in range(0, len(x), ROWS):
        kernel = (x[start : start + ROWS] @ y.T / x.shape[1] + 1) ** 3
        over_y[start : start + ROWS] = kernel.sum(axis=1, dtype=np.float64)
        over_x += kernel.sum(axis=0, dtype=np.float64)
    return over_y, over_x


def kernel_distance(real: np.ndarray, fake: np.ndarray) -> KernelDistance:
    """Estimates the squared maximum mean discrepancy with a cubic kernel (Bińkowski et al. 2018, section 4, "KID").

    https://arxiv.org/abs/1801.01401. The estimate is the unbiased one over all pairs; the standard error is that of the
    jackknife, which leaves out one sample at a time (Efron & Stein 1981), so that nothing is drawn at random.

    Raises:
        ValueError: there are fewer than three samples of a kind, or their features differ in number.
    """
    if min(len(real), len(fake)) < 3 or real.shape[1:] != fake.shape[1:]:
        raise ValueError(f"need three samples of each kind, alike in features, not {real.shape} and {fake.shape}")
    m, n = len(real), len(fake)
    within_real, within_fake = (_without_itself(features) for features in (real, fake))
    across_real, across_fake = _kernel_sums(real, fake)
    a, b, c = within_real.sum(), within_fake.sum(), across_real.sum()
    value = a / (m * (m - 1)) + b / (n * (n - 1)) - 2 * c / (m * n)
    # The estimates without one real sample, and without one generated one. A pair counts twice in a and in b.
    without_real = (
        (a - 2 * within_real) / ((m - 1) * (m - 2)) + b / (n * (n - 1)) - 2 * (c - across_real) / ((m - 1) * n)
    )
    without_fake = (
        a / (m * (m - 1)) + (b - 2 * within_fake) / ((n - 1) * (n - 2)) - 2 * (c - across_fake) / (m * (n - 1))
    )
    variance = (m - 1) * without_real.var() + (n - 1) * without_fake.var()
    return KernelDistance(float(value), math.sqrt(variance))


def _without_itself(x: np.ndarray) -> np.ndarray:
    """Computes, for each sample, the sum of its kernel with all other samples."""
    sums, _ = _kernel_sums(x, x)
    own: np.ndarray = (np.einsum("id,id->i", x, x) / x.shape[1] + 1) ** 3
    others: np.ndarray = sums - own
    return others


def frechet_distance(real: np.ndarray, fake: np.ndarray) -> float:
    """Computes the squared Wasserstein-2 distance of two normal distributions fitted to the samples.

    ‖μ₁ − μ₂‖² + tr(C₁ + C₂ − 2 (C₁ C₂)^½) (Dowson & Landau 1982; Heusel et al. 2017, equation 6,
    https://arxiv.org/abs/1706.08500). It is biased: too large for few samples, so it is compared only where numbers of
    samples are the same, some ten thousand.

    Raises:
        ValueError: there are fewer than two samples of a kind.
    """
    if min(len(real), len(fake)) < 2:
        raise ValueError(f"need two samples of each kind, not {len(real)} and {len(fake)}")
    real, fake = real.astype(np.float64), fake.astype(np.float64)
    first, second = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    # C₁ C₂ is similar to the symmetric S C₂ S, where S = C₁^½, so both have the same eigenvalues, none below 0.
    values, vectors = np.linalg.eigh(np.atleast_2d(first))
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    middle = np.linalg.eigvalsh(root @ np.atleast_2d(second) @ root)
    means = real.mean(axis=0) - fake.mean(axis=0)
    trace = np.trace(np.atleast_2d(first)) + np.trace(np.atleast_2d(second)) - 2 * np.sqrt(middle.clip(0)).sum()
    return float(means @ means + trace)


def squared_distances(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields squared Euclidean distances of all pairs, some rows of [samples of x, samples of y] at a time."""
    squares = np.einsum("id,id->i", y, y)
    for start in range(0, len(x), ROWS):
        rows = slice(start, min(start + ROWS, len(x)))
        part = np.einsum("id,id->i", x[rows], x[rows])[:, None] + squares - 2 * x[rows] @ y.T
        yield rows, part.clip(0)


def neighbour_radii(x: np.ndarray, k: int) -> np.ndarray:
    """Computes each sample's squared distance to its k-th nearest other sample."""
    radii = np.empty(len(x), x.dtype)
    for rows, distances in squared_distances(x, x):
        distances[np.arange(len(distances)), np.arange(rows.start, rows.stop)] = np.inf  # itself
        radii[rows] = np.partition(distances, k - 1, axis=1)[:, k - 1]
    return radii


def precision_recall(real: np.ndarray, fake: np.ndarray, k: int = 3) -> tuple[float, float]:
    """Estimates how many generated samples look real, and how many real ones the generator could draw.

    A sample lies in a set's manifold if some member is no farther from it than from its own k-th nearest neighbour
    (Kynkäänniemi et al. 2019, equations 1 and 2, https://arxiv.org/abs/1904.06991). Give as many samples of each.

    Returns:
        Precision and recall, in [0, 1].

    Raises:
        ValueError: there are no more than k samples of a kind.
    """
    if min(len(real), len(fake)) <= k:
        raise ValueError(f"need more than {k} samples of each kind, not {len(real)} and {len(fake)}")

    def share(samples: np.ndarray, members: np.ndarray) -> float:
        radii = neighbour_radii(members, k)
        return sum(int((part <= radii).any(axis=1).sum()) for _, part in squared_distances(samples, members)) / len(
            samples
        )

    return share(fake, real), share(real, fake)


def nearest(samples: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds each sample's nearest neighbour among the others.

    Returns:
        Its index, int64 [samples], and its distance, [samples].
    """
    indices, distances = np.empty(len(samples), np.int64), np.empty(len(samples), samples.dtype)
    for rows, part in squared_distances(samples, others):
        indices[rows] = part.argmin(axis=1)
        distances[rows] = np.sqrt(part.min(axis=1))
    return indices, distances
