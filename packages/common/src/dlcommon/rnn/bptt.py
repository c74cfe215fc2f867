"""Backpropagation through time (BPTT) by hand, in NumPy: full, and truncated (Williams & Peng 1990).

The network predicts a class at every step:

    h_t = tanh(W x_t + U h_{t−1} + b),   p_t = softmax(V h_t + c),   loss = mean of −log p_t[target_t].

Shapes: time T, batch B, input size I, hidden size H, output size O; sequences are [T, B, …].
"""

from typing import NamedTuple

import numpy as np


class RNNParameters(NamedTuple):
    """Holds the parameters of the network; their gradients have the same form."""

    weight_ih: np.ndarray
    """W [H, I]."""
    weight_hh: np.ndarray
    """U [H, H]."""
    bias_h: np.ndarray
    """b [H]."""
    weight_ho: np.ndarray
    """V [O, H]."""
    bias_o: np.ndarray
    """c [O]."""


class ForwardCache(NamedTuple):
    """Holds what the backward pass needs from the forward pass."""

    inputs: np.ndarray
    """x [T, B, I]."""
    hidden_states: np.ndarray
    """h [T + 1, B, H]; the first is the initial state."""
    probabilities: np.ndarray
    """p [T, B, O]."""


def init_parameters(input_size: int, hidden_size: int, output_size: int, rng: np.random.Generator) -> RNNParameters:
    """Draws weights from a normal distribution with standard deviation 1/√fan_in; biases are zero."""

    def matrix(fan_out: int, fan_in: int) -> np.ndarray:
        weights: np.ndarray = rng.standard_normal((fan_out, fan_in)) / np.sqrt(fan_in)
        return weights

    return RNNParameters(
        weight_ih=matrix(hidden_size, input_size),
        weight_hh=matrix(hidden_size, hidden_size),
        bias_h=np.zeros(hidden_size),
        weight_ho=matrix(output_size, hidden_size),
        bias_o=np.zeros(output_size),
    )


def forward(parameters: RNNParameters, inputs: np.ndarray, initial_state: np.ndarray) -> ForwardCache:
    """Runs the network over inputs [T, B, I] from an initial state [B, H]."""
    hidden_states = [initial_state]
    for x in inputs:  # [B, I]
        from_input, from_hidden = x @ parameters.weight_ih.T, hidden_states[-1] @ parameters.weight_hh.T
        hidden_states.append(np.tanh(from_input + from_hidden + parameters.bias_h))
    logits = np.stack(hidden_states[1:]) @ parameters.weight_ho.T + parameters.bias_o  # [T, B, O]
    # Subtracting the maximum changes no probability, and keeps exp from overflowing.
    exponentials = np.exp(logits - logits.max(axis=2, keepdims=True))
    return ForwardCache(inputs, np.stack(hidden_states), exponentials / exponentials.sum(axis=2, keepdims=True))


def cross_entropy(cache: ForwardCache, targets: np.ndarray) -> float:
    """Computes the mean negative log-likelihood, in nats per step, of targets int [T, B]."""
    likelihoods = np.take_along_axis(cache.probabilities, targets[..., None], axis=2)
    return float(-np.log(likelihoods).mean())


def backward(
    parameters: RNNParameters, cache: ForwardCache, targets: np.ndarray, truncation_length: int | None = None
) -> RNNParameters:
    """Computes the gradient of the mean cross-entropy with respect to every parameter.

    Args:
        parameters: those that `forward` used.
        cache: the result of `forward`.
        targets: int [T, B].
        truncation_length: cuts the sequence into windows of so many steps; hidden states are carried across their
            borders, gradients are not. By default gradients flow back to the first step.

    Returns:
        The gradients, in the form of the parameters.

    Raises:
        ValueError: `truncation_length` is less than 1.
    """
    if truncation_length is not None and truncation_length < 1:
        raise ValueError(f"truncation_length must be at least 1 step, got {truncation_length}")
    steps, batch, _ = cache.inputs.shape
    # Softmax and cross-entropy together: the gradient by the logits is p, less 1 at the target.
    d_logits = cache.probabilities.copy()  # [T, B, O]
    p_target = np.take_along_axis(d_logits, targets[..., None], axis=2)
    np.put_along_axis(d_logits, targets[..., None], p_target - 1, axis=2)
    d_logits /= steps * batch
    gradients = RNNParameters(*(np.zeros_like(parameter) for parameter in parameters))
    d_hidden_next = np.zeros_like(cache.hidden_states[0])  # dL/dh_t by way of h_{t+1}, [B, H]
    for t in reversed(range(steps)):
        h_previous, h = cache.hidden_states[t], cache.hidden_states[t + 1]  # h_{t−1}, h_t: index 0 is the initial state
        # h_t acts on the loss twice: through its own prediction, and through the next hidden state.
        d_hidden = d_logits[t] @ parameters.weight_ho + d_hidden_next
        d_preactivation = d_hidden * (1 - h**2)  # tanh' = 1 − tanh², [B, H]
        # The weights are shared by all steps, so the gradients of the steps add up.
        gradients.weight_ih[:] += d_preactivation.T @ cache.inputs[t]
        gradients.weight_hh[:] += d_preactivation.T @ h_previous
        gradients.bias_h[:] += d_preactivation.sum(axis=0)
        gradients.weight_ho[:] += d_logits[t].T @ h
        gradients.bias_o[:] += d_logits[t].sum(axis=0)
        d_hidden_next = d_preactivation @ parameters.weight_hh
        if truncation_length is not None and t % truncation_length == 0:
            d_hidden_next = np.zeros_like(d_hidden_next)  # t begins a window: nothing flows into the one before
    return gradients
