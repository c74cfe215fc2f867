"""Reverse-mode automatic differentiation over NumPy arrays.

Every operation notes its inputs and, for each, how a gradient of the result becomes a gradient of that input (its
vector-Jacobian product). `backward` walks these notes from the end to the beginning: the chain rule, one pass for all
inputs. Functions beyond arithmetic are in `dlcommon.mathematics.functional`.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

Pull = Callable[[np.ndarray], np.ndarray]
"""Gradient of a result, in the result's shape, to the gradient of an input, in that input's shape."""


class Variable:
    """An array that remembers how it was computed.

    Arithmetic with arrays and numbers takes these as constants. Broadcasting, shapes and dtypes are NumPy's.

    Args:
        data: floating-point values, kept and not copied if they are an array.
        inputs: the variables that it was computed from; none for one that is given.

    Raises:
        TypeError: the values are not floating-point numbers, so that nothing can be differentiated.
    """

    __array_ufunc__ = None  # leaves `array * variable` to the methods below

    def __init__(self, data: Any, inputs: tuple[tuple["Variable", Pull], ...] = ()) -> None:
        self.data: np.ndarray = np.asarray(data)
        if not np.issubdtype(self.data.dtype, np.floating):
            raise TypeError(f"a variable holds floating-point numbers, not {self.data.dtype}")
        self.inputs = inputs
        self.grad: np.ndarray | None = None
        """Of a given variable after `backward`: the sum over all calls since it was last set to None."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    def __repr__(self) -> str:
        return f"Variable({self.data!r})"

    def backward(self, gradient: np.ndarray | None = None) -> None:
        """Adds the gradient of this variable with respect to every given one to its `grad`.

        Args:
            gradient: the vector in the vector-Jacobian product, in this variable's shape; 1 for a single number.

        Raises:
            ValueError: there is none and this is not a single number, or its shape is another.
        """
        if gradient is None and self.data.size != 1:
            raise ValueError(f"only a single number has a gradient; for shape {self.shape} say of which combination")
        gradient = np.ones_like(self.data) if gradient is None else np.asarray(gradient, dtype=self.data.dtype)
        if gradient.shape != self.shape:
            raise ValueError(f"a gradient of shape {gradient.shape} for a variable of shape {self.shape}")
        for variable, arrived in backpropagate(self, gradient).items():
            variable.grad = arrived.copy() if variable.grad is None else variable.grad + arrived

    def __add__(self, other: Any) -> "Variable":
        a, b = self.data, values(other)
        return result(a + b, (self, lambda g: unbroadcast(g, a)), (other, lambda g: unbroadcast(g, b)))

    def __mul__(self, other: Any) -> "Variable":
        a, b = self.data, values(other)
        return result(a * b, (self, lambda g: unbroadcast(g * b, a)), (other, lambda g: unbroadcast(g * a, b)))

    def __truediv__(self, other: Any) -> "Variable":
        a, b = self.data, values(other)
        return result(a / b, (self, lambda g: unbroadcast(g / b, a)), (other, lambda g: unbroadcast(-g * a / b**2, b)))

    def __rtruediv__(self, other: Any) -> "Variable":
        a, b = values(other), self.data
        return result(a / b, (self, lambda g: unbroadcast(-g * a / b**2, b)))

    def __pow__(self, exponent: float) -> "Variable":
        a = self.data
        return result(a**exponent, (self, lambda g: g * exponent * a ** (exponent - 1)))

    def __neg__(self) -> "Variable":
        return self * -1

    def __sub__(self, other: Any) -> "Variable":
        return self + -other

    def __rsub__(self, other: Any) -> "Variable":
        return -self + other

    __radd__, __rmul__ = __add__, __mul__

    def __matmul__(self, other: Any) -> "Variable":
        return matmul(self, other)

    def __rmatmul__(self, other: Any) -> "Variable":
        return matmul(other, self)

    def sum(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> "Variable":
        a, kept = self.data, self.data.sum(axis=axis, keepdims=True)
        total = kept if keepdims else np.squeeze(kept, axis)
        return result(total, (self, lambda g: np.broadcast_to(g.reshape(kept.shape), a.shape)))

    def mean(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> "Variable":
        total = self.sum(axis, keepdims)
        return total * (total.data.size / self.data.size)

    def max(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> "Variable":
        """Where several are largest, they share the gradient equally, as in `torch.amax`."""
        kept = self.data.max(axis=axis, keepdims=True)
        chosen = self.data == kept
        share = chosen / chosen.sum(axis=axis, keepdims=True, dtype=kept.dtype)
        largest = kept if keepdims else np.squeeze(kept, axis)
        return result(largest, (self, lambda g: g.reshape(kept.shape) * share))

    def reshape(self, *shape: Any) -> "Variable":
        a = self.data
        return result(a.reshape(*shape), (self, lambda g: g.reshape(a.shape)))

    def transpose(self, *axes: Any) -> "Variable":
        """Axes in a new order, all reversed if none is given."""
        dimensions = self.data.ndim
        order = [int(axis) % dimensions for axis in np.ravel(axes)] if axes else list(range(dimensions))[::-1]
        return result(self.data.transpose(order), (self, lambda g: g.transpose(np.argsort(order))))

    @property
    def T(self) -> "Variable":  # noqa: N802
        return self.transpose()

    def __getitem__(self, index: Any) -> "Variable":
        """Any of NumPy's ways of indexing; an element that is taken twice gets both gradients."""
        a = self.data

        def pull(g: np.ndarray) -> np.ndarray:
            gradient = np.zeros_like(a)
            np.add.at(gradient, index, g)
            return gradient

        return result(a[index], (self, pull))


def backpropagate(output: Variable, gradient: np.ndarray) -> dict[Variable, np.ndarray]:
    """Applies the chain rule from an output back to the given variables; each operation is passed once.

    Args:
        output: the variable where the gradients start.
        gradient: ∂L/∂output, in the output's shape.

    Returns:
        ∂L/∂v, in v's shape, for each variable v without inputs that the output was computed from.
    """
    uses, found = Counter[Variable](), [output]  # loops, not recursion: graphs are deep
    while found:
        for source, _ in found.pop().inputs:
            if source not in uses:
                found.append(source)
            uses[source] += 1
    gradients, ready, given = {output: gradient}, [output], {}
    while ready:
        variable = ready.pop()
        arrived = gradients.pop(variable)  # complete: a variable is ready when the gradients of all its uses are in
        if not variable.inputs:
            given[variable] = arrived
        for source, pull in variable.inputs:
            share = pull(arrived)
            gradients[source] = gradients[source] + share if source in gradients else share
            uses[source] -= 1
            if not uses[source]:
                ready.append(source)
    return given


def result(data: np.ndarray, *inputs: tuple[Any, Pull]) -> Variable:
    """A variable computed from these inputs; those that are no variables are constants and need no gradient."""
    return Variable(data, tuple((source, pull) for source, pull in inputs if isinstance(source, Variable)))


def values(operand: Any) -> Any:
    """A variable's array; an array or a number as it is (a Python number does not widen float32)."""
    return operand.data if isinstance(operand, Variable) else operand


def unbroadcast(gradient: np.ndarray, operand: np.ndarray) -> np.ndarray:
    """Sums over the axes along which the operand was repeated, back to its own shape."""
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - operand.ndim)))
    repeated = tuple(axis for axis, size in enumerate(operand.shape) if size == 1 and gradient.shape[axis] != 1)
    return gradient.sum(axis=repeated, keepdims=True)


def matmul(left: Any, right: Any) -> Variable:
    """Matrix product of [..., m, n] and [..., n, k], with broadcasting and NumPy's rules for vectors.

    If Y = A B, then ∂/∂A = G Bᵀ and ∂/∂B = Aᵀ G.
    """
    a, b = values(left), values(right)
    matrix_a, matrix_b = np.atleast_2d(a), b[:, None] if b.ndim == 1 else b
    product = a @ b
    whole = (*np.broadcast_shapes(matrix_a.shape[:-2], matrix_b.shape[:-2]), matrix_a.shape[-2], matrix_b.shape[-1])

    def pull_left(g: np.ndarray) -> np.ndarray:
        return unbroadcast(g.reshape(whole) @ np.swapaxes(matrix_b, -1, -2), matrix_a).reshape(a.shape)

    def pull_right(g: np.ndarray) -> np.ndarray:
        return unbroadcast(np.swapaxes(matrix_a, -1, -2) @ g.reshape(whole), matrix_b).reshape(b.shape)

    return result(product, (left, pull_left), (right, pull_right))


def gradient_of(function: Callable[[Variable], Variable]) -> Callable[[np.ndarray], np.ndarray]:
    """The gradient of a function to a single number, as a function of arrays."""

    def gradient(x: np.ndarray) -> np.ndarray:
        variable = Variable(x)
        function(variable).backward()
        return np.zeros_like(variable.data) if variable.grad is None else variable.grad

    return gradient
