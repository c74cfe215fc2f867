"""Backpropagation through time by hand, in NumPy: full, and truncated (Williams & Peng 1990).

An RNN that says at every step what comes next:

    h_t = tanh(W x_t + U h_{t−1} + b),   p_t = softmax(V h_t + c),   loss = mean of −log p_t[target_t].

Shapes: time T, batch B, inputs I, hidden H, outputs O; sequences are [T, B, …].
"""

from typing import NamedTuple

import numpy as np


class Weights(NamedTuple):
    """What the network learns; also the form of its gradient."""

    input: np.ndarray
    """W [H, I]."""
    recurrent: np.ndarray
    """U [H, H]."""
    bias: np.ndarray
    """b [H]."""
    output: np.ndarray
    """V [O, H]."""
    output_bias: np.ndarray
    """c [O]."""


class Trace(NamedTuple):
    """What the way back needs of the way forth."""

    inputs: np.ndarray
    """[T, B, I]."""
    states: np.ndarray
    """[T + 1, B, H]; the first is the one that the sequence started from."""
    probabilities: np.ndarray
    """[T, B, O]."""


def random_weights(inputs: int, hidden: int, outputs: int, random: np.random.Generator) -> Weights:
    """Normal with standard deviation 1/√(inputs of the layer), biases zero."""

    def matrix(rows: int, columns: int) -> np.ndarray:
        return random.standard_normal((rows, columns)) / np.sqrt(columns)

    return Weights(
        matrix(hidden, inputs), matrix(hidden, hidden), np.zeros(hidden), matrix(outputs, hidden), np.zeros(outputs)
    )


def forward(weights: Weights, inputs: np.ndarray, state: np.ndarray) -> Trace:
    """Runs the network over inputs [T, B, I] from a state [B, H]."""
    states = [state]
    for x in inputs:
        states.append(np.tanh(x @ weights.input.T + states[-1] @ weights.recurrent.T + weights.bias))
    logits = np.stack(states[1:]) @ weights.output.T + weights.output_bias
    exponentials = np.exp(logits - logits.max(axis=2, keepdims=True))
    return Trace(inputs, np.stack(states), exponentials / exponentials.sum(axis=2, keepdims=True))


def loss(trace: Trace, targets: np.ndarray) -> float:
    """Mean negative log-likelihood, in nats per step, of targets int [T, B]."""
    chosen = np.take_along_axis(trace.probabilities, targets[..., None], axis=2)
    return float(-np.log(chosen).mean())


def backward(weights: Weights, trace: Trace, targets: np.ndarray, window: int | None = None) -> Weights:
    """The gradient of the mean loss by every weight.

    Args:
        weights: what `forward` used.
        trace: what `forward` returned.
        targets: int [T, B].
        window: cut the way back into windows of that many steps: states are carried over their borders,
            gradients are not. By default they go back to the first step.

    Raises:
        ValueError: the window has no step.
    """
    if window is not None and window < 1:
        raise ValueError(f"a window has at least one step, got {window}")
    steps, batch, _ = trace.inputs.shape
    d_logits = trace.probabilities.copy()  # softmax and cross-entropy together: p − 1 at the target
    np.put_along_axis(
        d_logits, targets[..., None], np.take_along_axis(d_logits, targets[..., None], axis=2) - 1, axis=2
    )
    d_logits /= steps * batch
    gradient = Weights(*(np.zeros_like(weight) for weight in weights))
    from_later = np.zeros_like(trace.states[0])  # dL/dh_t by way of h_{t+1}
    for time in reversed(range(steps)):
        before, after = trace.states[time], trace.states[time + 1]
        d_after = d_logits[time] @ weights.output + from_later
        d_sum = d_after * (1 - after**2)  # through tanh, to what it was taken of
        gradient.input[:] += d_sum.T @ trace.inputs[time]
        gradient.recurrent[:] += d_sum.T @ before
        gradient.bias[:] += d_sum.sum(axis=0)
        gradient.output[:] += d_logits[time].T @ after
        gradient.output_bias[:] += d_logits[time].sum(axis=0)
        from_later = d_sum @ weights.recurrent
        if window is not None and time % window == 0:
            from_later = np.zeros_like(from_later)
    return gradient
