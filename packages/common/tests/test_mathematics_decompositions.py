"""Our decompositions against NumPy's, SciPy's and scikit-learn's, on random, defective and real-shaped matrices."""

import numpy as np
import pytest
from dlcommon.mathematics.decompositions import eigh, householder_qr, power_iteration, randomized_svd, svd
from dlcommon.mathematics.principal_components import PCA
from sklearn import decomposition

SHAPES = [(1, 1), (5, 5), (9, 4), (4, 1), (30, 17)]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def of_rank(rank: int, rows: int, columns: int) -> np.ndarray:
    product: np.ndarray = normal(rows, rank) @ normal(rank, columns, seed=1)
    return product


@pytest.mark.parametrize("shape", SHAPES)
def test_qr_equals_numpys_up_to_the_signs_that_we_fix(shape: tuple[int, int]) -> None:
    matrix = normal(*shape)
    q, r = householder_qr(matrix)
    expected_q, expected_r = np.linalg.qr(matrix)
    signs = np.sign(np.diag(expected_r))
    np.testing.assert_allclose(q, expected_q * signs, atol=1e-12)
    np.testing.assert_allclose(r, expected_r * signs[:, None], atol=1e-12)
    assert (np.tril(r, -1) == 0).all()


@pytest.mark.parametrize(
    "matrix", [of_rank(2, 8, 5), np.zeros((4, 3)), 1e-200 * normal(6, 3)], ids=["rank 2", "zero", "tiny"]
)
def test_qr_stays_orthonormal_where_columns_are_dependent_or_tiny(matrix: np.ndarray) -> None:
    q, r = householder_qr(matrix)
    np.testing.assert_allclose(q.T @ q, np.eye(matrix.shape[1]), atol=1e-14)
    np.testing.assert_allclose(q @ r, matrix, atol=1e-14 * np.abs(matrix).max())


def test_qr_keeps_orthogonality_where_gram_schmidt_loses_it() -> None:
    hilbert = 1.0 / (np.arange(12)[:, None] + np.arange(12) + 1)  # condition number 1e16
    q, _ = householder_qr(hilbert)
    assert np.abs(q.T @ q - np.eye(12)).max() < 1e-14


def test_qr_refuses_a_wide_matrix() -> None:
    with pytest.raises(ValueError, match="transpose"):
        householder_qr(normal(2, 3))


@pytest.mark.parametrize("size", [1, 2, 7, 25])
def test_eigenvalues_and_vectors_equal_lapacks(size: int) -> None:
    matrix = normal(size, size)
    matrix = matrix + matrix.T
    values, vectors = eigh(matrix)
    expected_values, expected_vectors = np.linalg.eigh(matrix)
    np.testing.assert_allclose(values, expected_values[::-1], rtol=1e-10, atol=1e-12)
    alignment = np.abs((vectors * expected_vectors[:, ::-1]).sum(axis=0))
    np.testing.assert_allclose(alignment, 1.0, atol=1e-10)


@pytest.mark.parametrize(
    "matrix",
    [np.zeros((3, 3)), np.eye(5), np.ones((4, 4)), np.diag([1e8, 1.0, 1e-8]), np.array([[0.0, 1.0], [1.0, 0.0]])],
    ids=["zero", "identity", "rank one", "graded", "opposite pair"],
)
def test_repeated_and_graded_eigenvalues(matrix: np.ndarray) -> None:
    values, vectors = eigh(matrix)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix)[::-1], atol=1e-14 * max(1, np.abs(matrix).max()))
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(len(matrix)), atol=1e-13)
    np.testing.assert_allclose(vectors * values @ vectors.T, matrix, atol=1e-13 * max(1, np.abs(matrix).max()))


@pytest.mark.parametrize("matrix", [normal(3, 3), np.full((2, 2), np.nan)], ids=["asymmetric", "nan"])
def test_eigh_refuses_what_it_is_not_for(matrix: np.ndarray) -> None:
    with pytest.raises(ValueError, match="not symmetric"):
        eigh(matrix)


def test_power_iteration_finds_the_leading_pair_at_the_rate_of_the_gap() -> None:
    q, _ = householder_qr(normal(6, 6))
    matrix = q * np.array([2.0, 1.0, 0.5, 0.3, 0.2, -0.1]) @ q.T
    value, vector, residuals = power_iteration(matrix, normal(6, seed=1), steps=60)
    assert value == pytest.approx(2.0, rel=1e-12)
    np.testing.assert_allclose(np.abs(vector @ q[:, 0]), 1.0, rtol=1e-12)
    np.testing.assert_allclose(residuals[11:30] / residuals[10:29], 0.5, rtol=0.01)  # λ₂ / λ₁


@pytest.mark.parametrize("shape", [*SHAPES, (4, 9), (1, 5), (6, 31)])
def test_svd_equals_numpys_up_to_the_signs_of_pairs(shape: tuple[int, int]) -> None:
    matrix = normal(*shape)
    u, values, vt = svd(matrix)
    expected_u, expected_values, expected_vt = np.linalg.svd(matrix, full_matrices=False)
    np.testing.assert_allclose(values, expected_values, rtol=1e-12)
    signs = np.sign((u * expected_u).sum(axis=0))
    np.testing.assert_allclose(u * signs, expected_u, atol=1e-10)
    np.testing.assert_allclose(vt * signs[:, None], expected_vt, atol=1e-10)


@pytest.mark.parametrize(
    "matrix",
    [of_rank(3, 12, 8), np.zeros((5, 3)), np.ones((3, 7)), np.eye(6), 1e-250 * normal(4, 4), 1e250 * normal(4, 4)],
    ids=["rank 3", "zero", "ones", "identity", "tiny", "huge"],
)
def test_svd_of_defective_matrices_has_orthonormal_factors(matrix: np.ndarray) -> None:
    u, values, vt = svd(matrix)
    rank, scale = min(matrix.shape), np.abs(matrix).max()
    np.testing.assert_allclose(values, np.linalg.svd(matrix, compute_uv=False), atol=1e-13 * scale)
    np.testing.assert_allclose(u.T @ u, np.eye(rank), atol=1e-12)
    np.testing.assert_allclose(vt @ vt.T, np.eye(rank), atol=1e-12)
    np.testing.assert_allclose(u * values @ vt, matrix, atol=1e-13 * scale)


def test_svd_keeps_the_digits_of_small_singular_values_where_the_gram_matrix_loses_them() -> None:
    u, _ = householder_qr(normal(12, 5))
    v, _ = householder_qr(normal(5, 5, seed=1))
    truth = 10.0 ** -np.arange(0, 15, 3)
    matrix = u * truth @ v.T
    error = np.abs(svd(matrix)[1] - truth) / truth
    assert error[-1] < 1e-2  # 1e-12 of a matrix of size 1: the entries themselves are rounded at 1e-16
    with np.errstate(invalid="ignore"):
        by_gram_matrix = np.sqrt(eigh(matrix.T @ matrix)[0])
    assert not abs(by_gram_matrix[-1] - truth[-1]) < truth[-1]


def test_svd_refuses_nan() -> None:
    with pytest.raises(ValueError, match="NaN"):
        svd(np.array([[1.0, np.nan], [0.0, 1.0]]))


def test_randomized_svd_finds_the_leading_triplets_of_a_decaying_spectrum() -> None:
    left, _ = householder_qr(normal(120, 60))
    right, _ = householder_qr(normal(80, 60, seed=1))
    values = 0.9 ** np.arange(60)
    matrix = left * values @ right.T
    u, found, vt = randomized_svd(matrix, 8, np.random.default_rng(0), n_oversamples=12, n_iter=10)
    np.testing.assert_allclose(found, values[:8], rtol=1e-6)
    np.testing.assert_allclose(u * found @ vt, left[:, :8] * values[:8] @ right[:, :8].T, atol=1e-4)


def test_principal_components_equal_scikit_learns() -> None:
    scales = 0.7 ** np.arange(20)
    samples = normal(200, 20) * scales @ householder_qr(normal(20, 20, seed=2))[0] + 3.0
    ours = PCA.fit(samples, 5, np.random.default_rng(0))
    theirs = decomposition.PCA(5, svd_solver="full").fit(samples)
    np.testing.assert_allclose(ours.explained_variance, theirs.explained_variance_, rtol=1e-6)
    signs = np.sign((ours.components * theirs.components_).sum(axis=1))
    # Vectors converge with the square root of what their variances do.
    np.testing.assert_allclose(ours.transform(samples) * signs, theirs.transform(samples), atol=1e-3)
    np.testing.assert_allclose(
        ours.inverse_transform(ours.transform(samples)), theirs.inverse_transform(theirs.transform(samples)), atol=1e-3
    )
