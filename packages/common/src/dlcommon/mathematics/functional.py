"""Functions of autograd variables that networks are made of. Each states its own vector-Jacobian product."""

import numpy as np

from dlcommon.mathematics.autograd import Variable, result


def exp(x: Variable) -> Variable:
    y = np.exp(x.data)
    return result(y, (x, lambda g: g * y))


def log(x: Variable) -> Variable:
    return result(np.log(x.data), (x, lambda g: g / x.data))


def tanh(x: Variable) -> Variable:
    y = np.tanh(x.data)
    return result(y, (x, lambda g: g * (1 - y**2)))


def sigmoid(x: Variable) -> Variable:
    """1 / (1 + e⁻ˣ), by way of tanh, which overflows on neither side."""
    y = (np.tanh(x.data / 2) + 1) / 2
    return result(y, (x, lambda g: g * y * (1 - y)))


def relu(x: Variable) -> Variable:
    """max(x, 0); the derivative at 0 is taken to be 0, as in torch."""
    return result(np.maximum(x.data, 0), (x, lambda g: g * (x.data > 0)))


def log_softmax(x: Variable, axis: int = -1) -> Variable:
    """x − log Σ eˣ, with the largest taken out first so that no exponential overflows."""
    shifted = x.data - x.data.max(axis=axis, keepdims=True)
    y = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
    return result(y, (x, lambda g: g - np.exp(y) * g.sum(axis=axis, keepdims=True)))


def softmax(x: Variable, axis: int = -1) -> Variable:
    """The Jacobian is diag(p) − p pᵀ; multiplied with a vector it needs no matrix."""
    exponentials = np.exp(x.data - x.data.max(axis=axis, keepdims=True))
    p = exponentials / exponentials.sum(axis=axis, keepdims=True)
    return result(p, (x, lambda g: p * (g - (g * p).sum(axis=axis, keepdims=True))))


def cross_entropy(logits: Variable, labels: np.ndarray) -> Variable:
    """Mean −log softmax(logits)[label].

    Args:
        logits: [batch, classes].
        labels: integers [batch].
    """
    return -log_softmax(logits)[np.arange(len(labels)), labels].mean()
