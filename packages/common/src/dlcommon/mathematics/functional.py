"""Functions of autograd variables that networks consist of, each with its own vector-Jacobian product."""

import numpy as np

from dlcommon.mathematics.autograd import Variable, result


def exp(x: Variable) -> Variable:
    """Computes eˣ."""
    y = np.exp(x.data)
    return result(y, (x, lambda g: g * y))


def log(x: Variable) -> Variable:
    """Computes the natural logarithm."""
    return result(np.log(x.data), (x, lambda g: g / x.data))


def tanh(x: Variable) -> Variable:
    """Computes tanh(x), with the derivative 1 − tanh²(x)."""
    y = np.tanh(x.data)
    return result(y, (x, lambda g: g * (1 - y**2)))


def sigmoid(x: Variable) -> Variable:
    """Computes 1 / (1 + e⁻ˣ) by tanh, which overflows on neither side."""
    y = (np.tanh(x.data / 2) + 1) / 2
    return result(y, (x, lambda g: g * y * (1 - y)))


def relu(x: Variable) -> Variable:
    """Computes max(x, 0); the derivative at 0 is taken to be 0, as in torch."""
    return result(np.maximum(x.data, 0), (x, lambda g: g * (x.data > 0)))


def log_softmax(x: Variable, axis: int = -1) -> Variable:
    """Computes x − log Σ eˣ; subtracting the maximum first keeps exponentials from overflowing."""
    shifted = x.data - x.data.max(axis=axis, keepdims=True)
    y = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
    return result(y, (x, lambda g: g - np.exp(y) * g.sum(axis=axis, keepdims=True)))


def softmax(x: Variable, axis: int = -1) -> Variable:
    """Computes eˣ / Σ eˣ along `axis`."""
    # The Jacobian is diag(p) − p pᵀ; its product with g needs no matrix: p ⊙ (g − pᵀg).
    exponentials = np.exp(x.data - x.data.max(axis=axis, keepdims=True))
    p = exponentials / exponentials.sum(axis=axis, keepdims=True)
    return result(p, (x, lambda g: p * (g - (g * p).sum(axis=axis, keepdims=True))))


def cross_entropy(logits: Variable, labels: np.ndarray) -> Variable:
    """Computes the mean of −log softmax(logits)[label].

    Args:
        logits: [batch, num_classes].
        labels: integers [batch].
    """
    return -log_softmax(logits)[np.arange(len(labels)), labels].mean()
