"""Norms, angles, distances, projections and einsum against NumPy, SciPy and torch."""

from typing import Any

import numpy as np
import pytest
import torch
from dlcommon.mathematics.autograd import Variable
from dlcommon.mathematics.einsum import einsum
from dlcommon.mathematics.vectors import cosine_similarity, norm, project, squared_distances
from scipy.spatial.distance import cdist


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("order", [1, 1.5, 2, 3, np.inf])
def test_norm_equals_numpys(order: float) -> None:
    vectors = normal(4, 3, 6)
    np.testing.assert_allclose(norm(vectors, order), np.linalg.norm(vectors, ord=order, axis=-1), rtol=1e-12)


def test_norm_neither_overflows_nor_fails_on_zeros() -> None:
    np.testing.assert_allclose(norm(np.array([[3e200, 4e200], [0.0, 0.0], [3e-200, 4e-200]])), [5e200, 0, 5e-200])


def test_norm_refuses_an_order_below_one() -> None:
    with pytest.raises(ValueError, match=r"0\.5"):
        norm(np.ones(2), 0.5)


def test_similarities_and_distances_equal_scipys() -> None:
    a, b = normal(5, 7), normal(4, 7, seed=1)
    np.testing.assert_allclose(cosine_similarity(a, b), 1 - cdist(a, b, "cosine"), atol=1e-12)
    np.testing.assert_allclose(squared_distances(a, b), cdist(a, b, "sqeuclidean"), rtol=1e-12)
    assert (squared_distances(a + 1e6, a + 1e6) >= 0).all()


def test_a_zero_vector_has_no_angle() -> None:
    with pytest.raises(ValueError, match="zero"):
        cosine_similarity(np.array([[0.0, 0.0]]), np.ones((1, 2)))


def test_projection_is_the_least_squares_solution() -> None:
    basis, points = normal(8, 3), normal(8, 5, seed=1)
    expected = basis @ np.linalg.lstsq(basis, points)[0]
    np.testing.assert_allclose(project(points, basis), expected, atol=1e-12)
    np.testing.assert_allclose(project(expected, basis), expected, atol=1e-12)


EINSUMS: list[tuple[Any, ...]] = [
    ("i,i->", (4,), (4,)),
    ("i,j->ij", (3,), (4,)),
    ("ij->ji", (3, 4)),
    ("ij->", (3, 4)),
    ("ij,jk->ik", (3, 4), (4, 5)),
    ("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 6, 5)),
    ("bi,oi,bo->", (3, 4), (5, 4), (3, 5)),
    ("nchw,oc->nohw", (2, 3, 4, 4), (6, 3)),
]


@pytest.mark.parametrize(("subscripts", "shapes"), [(case[0], case[1:]) for case in EINSUMS])
def test_einsum_equals_torchs_in_value_and_gradient(subscripts: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    arrays = [normal(*shape, seed=number) for number, shape in enumerate(shapes)]
    np.testing.assert_allclose(einsum(subscripts, *arrays), np.einsum(subscripts, *arrays), rtol=1e-10, atol=1e-12)
    ours = [Variable(array) for array in arrays]
    theirs = [torch.tensor(array, requires_grad=True) for array in arrays]
    found, expected = einsum(subscripts, *ours), torch.einsum(subscripts, *theirs)
    np.testing.assert_allclose(found.data, expected.detach(), rtol=1e-10, atol=1e-12)
    (found * found).sum().backward()
    (expected * expected).sum().backward()
    for mine, reference in zip(ours, theirs, strict=True):
        assert mine.grad is not None
        assert reference.grad is not None
        np.testing.assert_allclose(mine.grad, reference.grad, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("subscripts", "shapes", "problem"),
    [
        ("ij,jk", [(2, 3), (3, 4)], "must name"),
        ("ij->i", [(2, 3), (3, 4)], "2 operands"),
        ("ij,jk->ik", [(2, 3), (4, 5)], "sizes 3 and 4"),
        ("ijk->i", [(2, 3)], "2 axes"),
        ("ii->i", [(2, 2)], "letter of its own"),
        ("ij->ik", [(2, 3)], "letters of the operands"),
    ],
)
def test_einsum_says_what_does_not_fit(subscripts: str, shapes: list[tuple[int, int]], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        einsum(subscripts, *(np.ones(shape) for shape in shapes))
