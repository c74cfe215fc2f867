"""Our autograd against torch's: values and gradients of every operation, float64, on shapes that broadcast."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from dlcommon.mathematics import functional as F
from dlcommon.mathematics.autograd import Variable, gradient_of
from dlcommon.mathematics.derivatives import numerical_gradient


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


Operation = Callable[..., Any]
"""Maps our variables, or torch's tensors, to one of them."""


def assert_equal_to_torch(ours: Operation, theirs: Operation, *arrays: np.ndarray) -> None:
    """Value, dtype and, for a random combination of the outputs, all gradients."""
    variables = [Variable(array) for array in arrays]
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    found, expected = ours(*variables), theirs(*tensors)
    assert found.shape == tuple(expected.shape)
    np.testing.assert_allclose(found.data, expected.detach(), rtol=1e-12, atol=1e-14)
    weights = normal(*found.shape, seed=99) if found.shape else np.array(1.7)
    found.backward(weights)
    expected.backward(torch.tensor(weights))
    for variable, tensor in zip(variables, tensors, strict=True):
        assert variable.grad is not None
        assert tensor.grad is not None
        assert variable.grad.dtype == variable.data.dtype
        np.testing.assert_allclose(variable.grad, tensor.grad, rtol=1e-10, atol=1e-12)


SHAPES = [((3, 4), (3, 4)), ((3, 4), (4,)), ((3, 1), (1, 4)), ((2, 3, 4), (3, 1)), ((3,), ()), ((1, 1), (2, 2, 3))]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize(
    "operation",
    [lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / b],
    ids=["add", "subtract", "multiply", "divide"],
)
def test_arithmetic_broadcasts(operation: Operation, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    assert_equal_to_torch(operation, operation, normal(*shapes[0]), 2.0 + np.abs(normal(*shapes[1], seed=1)))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 5)), ((2, 1, 3, 4), (5, 4, 2)),
        ((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 5)), ((2, 3, 4), (4,)), ((4,), (2, 4, 5)),
    ],
    ids=str,
)  # fmt: skip
def test_matrix_products_of_all_shapes(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    assert_equal_to_torch(lambda a, b: a @ b, lambda a, b: a @ b, normal(*left), normal(*right, seed=1))


CONSTANT = 1.0 + np.abs(normal(3, 4, seed=5))


@pytest.mark.parametrize(
    "operation",
    [
        lambda x, c: x + c, lambda x, c: c + x, lambda x, c: x - c, lambda x, c: c - x, lambda x, c: x * c,
        lambda x, c: c * x, lambda x, c: x / c, lambda x, c: c / x, lambda x, c: 2 * x - 3, lambda x, c: 1 / x,
        lambda x, c: -x, lambda x, c: 5 - x, lambda x, c: x**3, lambda x, c: x**0.5, lambda x, c: x**-1,
    ],
)  # fmt: skip
def test_arrays_and_numbers_are_constants(operation: Operation) -> None:
    assert_equal_to_torch(
        lambda x: operation(x, CONSTANT), lambda x: operation(x, torch.tensor(CONSTANT)), 0.5 + np.abs(normal(3, 4))
    )


def test_products_with_constant_matrices() -> None:
    assert_equal_to_torch(lambda x: CONSTANT @ x, lambda x: torch.tensor(CONSTANT) @ x, normal(4, 2))
    assert_equal_to_torch(lambda x: x @ CONSTANT, lambda x: x @ torch.tensor(CONSTANT), normal(2, 3))


@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize("axis", [0, -1, (0, 2), (0, 1, 2), None], ids=str)
def test_reductions(axis: int | tuple[int, ...] | None, keepdims: bool) -> None:
    dims = tuple(range(3)) if axis is None else axis
    x = normal(2, 3, 4)
    x[0, 1, 1:3] = x[1, 2, 0] = 9.0  # several largest share the gradient
    assert_equal_to_torch(lambda x: x.sum(axis, keepdims), lambda x: x.sum(dims, keepdims), x)
    assert_equal_to_torch(lambda x: x.mean(axis, keepdims), lambda x: x.mean(dims, keepdims), x)
    assert_equal_to_torch(lambda x: x.max(axis, keepdims), lambda x: x.amax(dims, keepdims), x)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda x: x.reshape(6, 4), lambda x: x.reshape(6, 4)),
        (lambda x: x.reshape((4, -1)), lambda x: x.reshape((4, -1))),
        (lambda x: x.transpose(2, 0, 1), lambda x: x.permute(2, 0, 1)),
        (lambda x: x.transpose((0, -1, 1)), lambda x: x.permute((0, -1, 1))),
        (lambda x: x.T, lambda x: x.permute(2, 1, 0)),
        (lambda x: x[1], lambda x: x[1]),
        (lambda x: x[:, 1:, ::2], lambda x: x[:, 1:, ::2]),
        (lambda x: x[[0, 1, 1], [2, 0, 0]], lambda x: x[[0, 1, 1], [2, 0, 0]]),
        (lambda x: x[np.array([0, 0, 1])], lambda x: x[torch.tensor([0, 0, 1])]),
    ],
)
def test_shapes_and_indices(ours: Operation, theirs: Operation) -> None:
    assert_equal_to_torch(ours, theirs, normal(2, 3, 4))


@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid", "relu"])
def test_elementwise_functions(name: str) -> None:
    x = 3 * normal(3, 4)
    x[0, 0] = 0.0
    assert_equal_to_torch(getattr(F, name), getattr(torch, name), x)


def test_log() -> None:
    assert_equal_to_torch(F.log, torch.log, np.abs(normal(3, 4)) + 0.1)


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("scale", [1.0, 1000.0])  # e¹⁰⁰⁰ is not a float64
def test_softmax_and_its_logarithm(axis: int, scale: float) -> None:
    x = scale * normal(3, 4)
    assert_equal_to_torch(lambda x: F.softmax(x, axis), lambda x: torch.softmax(x, axis), x)
    assert_equal_to_torch(lambda x: F.log_softmax(x, axis), lambda x: torch.log_softmax(x, axis), x)


def test_cross_entropy() -> None:
    labels = np.array([1, 0, 1, 3, 2])
    assert_equal_to_torch(
        lambda x: F.cross_entropy(x, labels),
        lambda x: torch.nn.functional.cross_entropy(x, torch.tensor(labels)),
        4 * normal(5, 4),
    )


def test_sigmoid_of_large_numbers_is_exact_and_silent() -> None:
    np.testing.assert_array_equal(F.sigmoid(Variable(np.array([-800.0, 800.0]))).data, [0.0, 1.0])


def test_a_network_with_normalization_equals_torchs() -> None:
    def loss(namespace: Any, axis: dict[str, Any], x: Any, first: Any, gain: Any, second: Any) -> Any:
        h = x @ first
        centred = h - h.mean(**axis)
        h = centred / ((centred * centred).mean(**axis) + 1e-5) ** 0.5 * gain
        return (namespace.relu(h) @ second - namespace.tanh(h[:, :2])).sum()

    assert_equal_to_torch(
        partial(loss, F, {"axis": 0, "keepdims": True}),
        partial(loss, torch, {"dim": 0, "keepdim": True}),
        normal(6, 5), normal(5, 4, seed=1), normal(4, seed=2), normal(4, 2, seed=3),
    )  # fmt: skip


def test_a_variable_used_twice_gets_the_sum_and_a_second_call_adds() -> None:
    x = Variable(np.array([2.0, 3.0]))
    y = x * x + x
    total = (y * y).sum()
    total.backward()
    assert x.grad is not None
    first = x.grad.copy()
    np.testing.assert_allclose(first, 2 * (x.data**2 + x.data) * (2 * x.data + 1))
    total.backward()
    np.testing.assert_allclose(x.grad, 2 * first)


def test_gradients_do_not_share_memory() -> None:
    a, b = Variable(np.ones(3)), Variable(np.ones(3))
    (a + b).sum().backward()
    assert a.grad is not None
    a.grad *= 5.0
    np.testing.assert_array_equal(b.grad, np.ones(3))


def test_a_graph_deeper_than_the_recursion_limit() -> None:
    x = y = Variable(np.array(1.0))
    for _ in range(2 * sys.getrecursionlimit()):
        y = y + x
    y.backward()
    assert x.grad == 2 * sys.getrecursionlimit() + 1


def test_wide_graphs_take_time_in_proportion_to_their_size() -> None:
    x = y = Variable(np.array(1.0))
    for _ in range(60):
        y = y + y  # 2⁶⁰ paths through 60 additions
    y.backward()
    assert x.grad == 2.0**60


def test_float32_stays_float32() -> None:
    x = Variable(np.ones((2, 3), dtype=np.float32))
    y = (F.log_softmax(2.0 * x / 3 + 1) * 0.5).mean() + x.max() ** 2
    y.backward()
    assert x.grad is not None
    assert y.data.dtype == x.grad.dtype == np.float32


def test_integers_cannot_be_differentiated() -> None:
    with pytest.raises(TypeError, match="int64"):
        Variable(np.arange(3))


def test_backward_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match="single number"):
        Variable(np.ones(3)).backward()
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        Variable(np.ones(3)).backward(np.ones(2))


def test_gradient_of_a_function_equals_its_differences() -> None:
    def function(x: Variable) -> Variable:
        return (F.exp(x[0] * 0.3) * F.tanh(x[1]) + x[0] ** 2).sum()

    point = normal(2, 3)
    found = gradient_of(function)(point)
    np.testing.assert_allclose(found, numerical_gradient(lambda x: float(function(Variable(x)).data), point), rtol=1e-8)
    np.testing.assert_array_equal(gradient_of(lambda x: Variable(1.0))(point), np.zeros((2, 3)))
