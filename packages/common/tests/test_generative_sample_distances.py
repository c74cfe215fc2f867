"""Distances between sets of samples, equal to scikit-learn, scipy and brute force."""

import numpy as np
import pytest
from dlcommon.generative.sample_distances import (
    frechet_distance,
    kernel_distance,
    nearest,
    neighbour_radii,
    precision_recall,
)
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import polynomial_kernel

RANDOM = np.random.default_rng(0)
REAL = RANDOM.standard_normal((1100, 6))  # more than the rows that are computed at a time
FAKE = 0.3 + 1.2 * RANDOM.standard_normal((90, 6))


def reference_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Computes the unbiased estimate with scikit-learn's kernel: by default degree 3, gamma 1 / dim, coef0 1."""
    m, n = len(x), len(y)
    xx, yy, xy = polynomial_kernel(x), polynomial_kernel(y), polynomial_kernel(x, y)
    within = (xx.sum() - np.trace(xx)) / (m * (m - 1)) + (yy.sum() - np.trace(yy)) / (n * (n - 1))
    return float(within - 2 * xy.mean())


def test_kernel_distance_is_that_of_scikit_learn() -> None:
    assert kernel_distance(REAL, FAKE).value == pytest.approx(reference_mmd(REAL, FAKE), rel=1e-10)
    assert kernel_distance(FAKE, REAL).value == pytest.approx(reference_mmd(FAKE, REAL), rel=1e-10)


def test_its_error_is_that_of_a_jackknife_that_leaves_samples_out_one_by_one() -> None:
    x, y = REAL[:20], FAKE[:15]
    left = [reference_mmd(np.delete(x, i, axis=0), y) for i in range(20)]
    right = [reference_mmd(x, np.delete(y, i, axis=0)) for i in range(15)]
    expected = np.sqrt(19 * np.var(left) + 14 * np.var(right))
    assert kernel_distance(x, y).standard_error == pytest.approx(expected, rel=1e-9)


def test_its_error_is_how_much_estimates_from_other_samples_differ() -> None:
    def drawn(n: int) -> np.ndarray:
        return RANDOM.standard_normal((n, 3))

    found = [kernel_distance(drawn(60), 0.5 + drawn(60)) for _ in range(200)]
    spread = np.std([one.value for one in found])
    assert np.mean([one.standard_error for one in found]) == pytest.approx(spread, rel=0.2)


def test_samples_of_one_distribution_are_about_0_apart() -> None:
    distance = kernel_distance(REAL[:500], REAL[500:])
    assert abs(distance.value) < 4 * distance.standard_error


def test_frechet_distance_is_that_of_scipys_matrix_root() -> None:
    first, second = np.cov(REAL, rowvar=False), np.cov(FAKE, rowvar=False)
    means = REAL.mean(axis=0) - FAKE.mean(axis=0)
    expected = means @ means + np.trace(first + second - 2 * np.real(sqrtm(first @ second)))
    assert frechet_distance(REAL, FAKE) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(REAL, REAL) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_fewer_samples_than_features() -> None:
    assert np.isfinite(frechet_distance(REAL[:4], FAKE[:5]))


def test_neighbours_are_those_of_brute_force() -> None:
    distances = cdist(FAKE, REAL)
    indices, found = nearest(FAKE, REAL)
    assert (indices == distances.argmin(axis=1)).all()
    np.testing.assert_allclose(found, distances.min(axis=1), rtol=1e-7)
    own = np.sort(cdist(REAL, REAL), axis=1)  # the first is the sample itself
    np.testing.assert_allclose(np.sqrt(neighbour_radii(REAL, 3)), own[:, 3], rtol=1e-6)


def test_precision_and_recall_are_those_of_brute_force() -> None:
    real = REAL[:90]

    def share(samples: np.ndarray, members: np.ndarray) -> float:
        radii = np.sort(cdist(members, members), axis=1)[:, 3]
        return float(np.mean([(np.linalg.norm(members - one, axis=1) <= radii).any() for one in samples]))

    precision, recall = precision_recall(real, FAKE)
    assert precision == pytest.approx(share(FAKE, real))
    assert recall == pytest.approx(share(real, FAKE))
    assert 0 < precision < 1


def test_few_modes_cost_recall_and_not_precision() -> None:
    few = np.repeat(REAL[:10], 9, axis=0) + 0.01 * RANDOM.standard_normal((90, 6))
    precision, recall = precision_recall(REAL[100:190], few)
    assert precision > 0.5
    assert recall < 0.3


@pytest.mark.parametrize("function", [kernel_distance, frechet_distance, precision_recall])
def test_too_few_samples_are_refused(function: object) -> None:
    assert callable(function)
    with pytest.raises(ValueError, match="need"):
        function(REAL[:1], FAKE)
