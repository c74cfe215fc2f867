"""Reverse-mode automatic differentiation over NumPy arrays.

Every operation records its inputs and, for each, the vector-Jacobian product (VJP) that turns a gradient of the result
into a gradient of that input. `backward` applies them from the end to the beginning: the chain rule, in one pass
for all inputs. Functions beyond arithmetic are in `dlcommon.mathematics.functional`.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

VJP = Callable[[np.ndarray], np.ndarray]
"""Maps the gradient of a result, in the result's shape, to that of an input, in the input's shape."""


class Variable:
    """Wraps an array and records how it was computed.

    In arithmetic, arrays and numbers are constants. Broadcasting, shapes and dtypes are NumPy's.

    Args:
        data: floating-point values; an array is not copied.
        inputs: the variables that it was computed from, each with its VJP; none for a leaf.

    Raises:
        TypeError: the values are not floating-point numbers, which alone can be differentiated.
    """

    __array_ufunc__ = None  # leaves `array * variable` to the methods below

    def __init__(self, data: Any, inputs: tuple[tuple["Variable", VJP], ...] = ()) -> None:
        self.data: np.ndarray = np.asarray(data)
        if not np.issubdtype(self.data.dtype, np.floating):
            raise TypeError(f"a variable holds floating-point numbers, not {self.data.dtype}")
        self.inputs = inputs
        self.grad: np.ndarray | None = None
        """Gradient of a leaf after `backward`: the sum over all calls since it was last set to None."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.data.shape

    def __repr__(self) -> str:
        return f"Variable({self.data!r})"

    def backward(self, gradient: np.ndarray | None = None) -> None:
        """Adds the gradient of this variable with respect to every leaf to the leaf's `grad`.

        Args:
            gradient: the vector in the vector-Jacobian product, in this variable's shape; 1 for a single number.

        Raises:
            ValueError: `gradient` is missing for an array, or has another shape than this variable.
        """
        if gradient is None and self.data.size != 1:
            raise ValueError(
                f"only a single number has a gradient; for shape {self.shape} pass the vector to multiply with"
            )
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
        return self.__add__(-other)

    def __rsub__(self, other: Any) -> "Variable":
        return (-self).__add__(other)

    __radd__, __rmul__ = __add__, __mul__

    def __matmul__(self, other: Any) -> "Variable":
        return matmul(self, other)

    def __rmatmul__(self, other: Any) -> "Variable":
        return matmul(other, self)

    def sum(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> "Variable":
        """Sums over `axis`, or over everything; the gradient is repeated along the summed axes."""
        a, kept = self.data, self.data.sum(axis=axis, keepdims=True)
        total = kept if keepdims else np.squeeze(kept, axis)
        return result(total, (self, lambda g: np.broadcast_to(g.reshape(kept.shape), a.shape)))

    def mean(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> "Variable":
        """Averages over `axis`, or over everything."""
        total = self.sum(axis, keepdims)
        return total * (total.data.size / self.data.size)

    def max(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> "Variable":
        """Takes the maximum over `axis`; where several are largest, they share the gradient, as in `torch.amax`."""
        kept = self.data.max(axis=axis, keepdims=True)
        chosen = self.data == kept
        share = chosen / chosen.sum(axis=axis, keepdims=True, dtype=kept.dtype)
        largest = kept if keepdims else np.squeeze(kept, axis)
        return result(largest, (self, lambda g: g.reshape(kept.shape) * share))

    def reshape(self, *shape: Any) -> "Variable":
        """Changes the shape; the gradient is reshaped back."""
        a = self.data
        return result(a.reshape(*shape), (self, lambda g: g.reshape(a.shape)))

    def transpose(self, *axes: Any) -> "Variable":
        """Permutes the axes, or reverses them if no order is given."""
        dimensions = self.data.ndim
        order = [int(axis) % dimensions for axis in np.ravel(axes)] if axes else list(range(dimensions))[::-1]
        return result(self.data.transpose(order), (self, lambda g: g.transpose(np.argsort(order))))

    @property
    def T(self) -> "Variable":  # noqa: N802
        """The transpose."""
        return self.transpose()

    def __getitem__(self, index: Any) -> "Variable":
        """Indexes as NumPy does; an element that is taken twice gets both gradients."""
        a = self.data

        def vjp(g: np.ndarray) -> np.ndarray:
            gradient = np.zeros_like(a)
            np.add.at(gradient, index, g)  # `gradient[index] += g` would count repeated elements once
            return gradient

        return result(a[index], (self, vjp))


def backpropagate(output: Variable, gradient: np.ndarray) -> dict[Variable, np.ndarray]:
    """Applies the chain rule from an output back to the leaves, passing each operation once.

    Args:
        output: the variable where the gradients start.
        gradient: ∂L/∂output, in the output's shape.

    Returns:
        ∂L/∂v, in v's shape, for each leaf v (a variable without inputs) that the output was computed from.
    """
    # A variable's gradient is complete when those of all its uses have arrived, so uses are counted first.
    # Loops instead of recursion, since graphs are deeper than Python's stack.
    uses, pending = Counter[Variable](), [output]
    while pending:
        for source, _ in pending.pop().inputs:
            if source not in uses:
                pending.append(source)
            uses[source] += 1
    gradients, ready, leaves = {output: gradient}, [output], {}
    while ready:
        variable = ready.pop()
        arrived = gradients.pop(variable)  # only the gradients still needed stay in memory
        if not variable.inputs:
            leaves[variable] = arrived
        for source, vjp in variable.inputs:
            part = vjp(arrived)
            # A variable that is used several times gets the sum (the multivariate chain rule).
            gradients[source] = gradients[source] + part if source in gradients else part
            uses[source] -= 1
            if not uses[source]:
                ready.append(source)
    return leaves


def result(data: np.ndarray, *inputs: tuple[Any, VJP]) -> Variable:
    """Makes a variable computed from these inputs; those that are not variables are constants without gradient."""
    return Variable(data, tuple((source, vjp) for source, vjp in inputs if isinstance(source, Variable)))


def values(operand: Any) -> Any:
    """Returns a variable's array, and arrays and numbers unchanged (a Python number does not widen float32)."""
    return operand.data if isinstance(operand, Variable) else operand


def unbroadcast(gradient: np.ndarray, operand: np.ndarray) -> np.ndarray:
    """Sums over the axes along which broadcasting repeated the operand, back to its own shape."""
    # Axes that broadcasting prepended, then axes of size 1 that it stretched.
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - operand.ndim)))
    repeated = tuple(axis for axis, size in enumerate(operand.shape) if size == 1 and gradient.shape[axis] != 1)
    result: np.ndarray = gradient.sum(axis=repeated, keepdims=True)
    return result


def matmul(left: Any, right: Any) -> Variable:
    """Computes the product of [..., m, n] and [..., n, k], with broadcasting and NumPy's rules for vectors.

    If Y = A B, then ∂/∂A = G Bᵀ and ∂/∂B = Aᵀ G.
    """
    a, b = values(left), values(right)
    matrix_a, matrix_b = np.atleast_2d(a), b[:, None] if b.ndim == 1 else b
    product = a @ b
    # NumPy drops the axis that a vector lacks; gradients get it back: [..., m, k].
    whole = (*np.broadcast_shapes(matrix_a.shape[:-2], matrix_b.shape[:-2]), matrix_a.shape[-2], matrix_b.shape[-1])

    def vjp_left(g: np.ndarray) -> np.ndarray:
        return unbroadcast(g.reshape(whole) @ np.swapaxes(matrix_b, -1, -2), matrix_a).reshape(a.shape)

    def vjp_right(g: np.ndarray) -> np.ndarray:
        return unbroadcast(np.swapaxes(matrix_a, -1, -2) @ g.reshape(whole), matrix_b).reshape(b.shape)

    return result(product, (left, vjp_left), (right, vjp_right))


def gradient_of(function: Callable[[Variable], Variable]) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the gradient, as a function of arrays, of a function whose value is a single number."""

    def gradient(x: np.ndarray) -> np.ndarray:
        variable = Variable(x)
        function(variable).backward()
        return np.zeros_like(variable.data) if variable.grad is None else variable.grad

    return gradient
