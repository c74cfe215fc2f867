"""Forward and backward pass of a multilayer perceptron in NumPy, every matrix written out.

Each layer computes z = h W + b from its input h, and φ(z) is the next one's input; the last layer's z are the logits.
With δ for ∂loss/∂z of a layer (Rumelhart, Hinton & Williams 1986, https://doi.org/10.1038/323533a0):

    δ of the last layer  = (softmax(z) − one-hot label) / batch     (1)
    ∂loss/∂W             = hᵀ δ                                     (2)
    ∂loss/∂b             = Σ δ over the batch                       (3)
    ∂loss/∂h             = δ Wᵀ                                     (4)
    δ of the layer below = ∂loss/∂h ⊙ φ′(z of the layer below)      (5)

`dlcommon.mathematics.autograd` derives the same from any expression.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from dlcommon.neural_networks.activations import Activation


class Layer(NamedTuple):
    """Holds the parameters of a linear layer, or the gradients with respect to them."""

    weight: np.ndarray
    """[in_features, out_features]; torch stores the transpose."""
    bias: np.ndarray
    """[out_features]."""


class ForwardCache(NamedTuple):
    """Holds what the backward pass needs of the forward pass: two arrays a layer, the memory that training takes."""

    inputs: list[np.ndarray]
    """h of each layer, [batch, in_features]."""
    pre_activations: list[np.ndarray]
    """z of each layer, [batch, out_features]."""

    @property
    def logits(self) -> np.ndarray:
        """[batch, num_classes]."""
        return self.pre_activations[-1]


def init_layers(sizes: Sequence[int], rng: np.random.Generator, gain: float = math.sqrt(2)) -> list[Layer]:
    """Draws normal weights of variance gain² / in_features, and sets biases to 0.

    In the last layer, which no activation follows, the gain is 1.

    Args:
        sizes: widths of the input, each hidden layer, and the output.
        rng: of the draws.
        gain: √2 for ReLU (He et al. 2015); `dlcommon.neural_networks.initialization.calculate_gain` has others.
    """
    gains = [gain] * (len(sizes) - 2) + [1.0]
    return [
        Layer(rng.standard_normal((fan_in, fan_out)) * (scale / math.sqrt(fan_in)), np.zeros(fan_out))
        for (fan_in, fan_out), scale in zip(pairwise(sizes), gains, strict=True)
    ]


def forward(layers: Sequence[Layer], activation: Activation, x: np.ndarray) -> ForwardCache:
    """Computes the logits of x [batch, in_features], and keeps what the backward pass needs."""
    cache = ForwardCache([], [])
    h = x
    for index, layer in enumerate(layers):
        cache.inputs.append(h)
        z = h @ layer.weight + layer.bias  # [batch, out_features]
        cache.pre_activations.append(z)
        if index < len(layers) - 1:
            h = activation(z)
    return cache


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Computes the mean of −log softmax(logits)[label], and its gradient with respect to the logits, equation (1).

    Args:
        logits: [batch, num_classes].
        labels: integers [batch].

    Returns:
        The loss in nats, and its gradient [batch, num_classes].

    Raises:
        ValueError: a label is not a class, or there are not as many as logits.
    """
    batch, num_classes = logits.shape
    if labels.shape != (batch,) or labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"{batch} rows of logits need as many labels, each from 0 to {num_classes - 1}")
    rows = np.arange(batch)
    shifted = logits - logits.max(axis=1, keepdims=True)  # so that no exponential overflows
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    gradient = np.exp(log_probabilities)
    gradient[rows, labels] -= 1
    return -float(log_probabilities[rows, labels].mean()), gradient / batch


def backward(
    layers: Sequence[Layer], activation: Activation, cache: ForwardCache, grad_logits: np.ndarray
) -> tuple[list[Layer], np.ndarray]:
    """Computes the gradients with respect to every parameter and the input, from the last layer to the first.

    Args:
        layers: those that `forward` used.
        activation: as of `forward`.
        cache: the result of `forward`.
        grad_logits: gradient of the loss with respect to the logits, [batch, num_classes].

    Returns:
        Gradients shaped like the layers, and with respect to the input, [batch, in_features].
    """
    gradients = []
    delta = grad_logits
    for index in reversed(range(len(layers))):
        # [in_features, batch] @ [batch, out_features]: the product sums over the batch.
        gradients.append(Layer(cache.inputs[index].T @ delta, delta.sum(axis=0)))  # (2), (3)
        grad_input = delta @ layers[index].weight.T  # (4), [batch, in_features]
        if index > 0:
            delta = grad_input * activation.derivative(cache.pre_activations[index - 1])  # (5)
    return gradients[::-1], grad_input
