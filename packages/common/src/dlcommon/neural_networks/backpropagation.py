"""Forward and backward pass of a multilayer perceptron in NumPy, every matrix written out.

Each layer computes z = h W + b from its input h, and φ(z) is the next one's input; the last layer's z are the logits.
With δ for ∂loss/∂z of a layer (Rumelhart, Hinton & Williams 1986):

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
    """Weights of a layer, or gradients by them."""

    weight: np.ndarray
    """[inputs, outputs]; torch keeps the transpose."""
    bias: np.ndarray
    """[outputs]."""


class Forward(NamedTuple):
    """What a forward pass leaves behind for the backward pass: two arrays a layer, which is training's memory."""

    inputs: list[np.ndarray]
    """h of each layer, [batch, inputs]."""
    sums: list[np.ndarray]
    """z of each layer, [batch, outputs]."""

    @property
    def logits(self) -> np.ndarray:
        """[batch, classes]."""
        return self.sums[-1]


def random_layers(widths: Sequence[int], generator: np.random.Generator, gain: float = math.sqrt(2)) -> list[Layer]:
    """Normal weights of variance gain² / inputs, 1 / inputs in the last layer, which no activation follows; biases 0.

    Args:
        widths: of the input, each hidden layer, and the output.
        gain: √2 is He's for ReLU; `dlcommon.neural_networks.initialization.preserving_gain` has others.
    """
    gains = [gain] * (len(widths) - 2) + [1.0]
    return [
        Layer(generator.standard_normal((inputs, outputs)) * (scale / math.sqrt(inputs)), np.zeros(outputs))
        for (inputs, outputs), scale in zip(pairwise(widths), gains, strict=True)
    ]


def forward(layers: Sequence[Layer], activation: Activation, x: np.ndarray) -> Forward:
    """From x [batch, inputs] to the logits, keeping what is needed on the way back."""
    passed = Forward([], [])
    h = x
    for number, layer in enumerate(layers):
        passed.inputs.append(h)
        z = h @ layer.weight + layer.bias
        passed.sums.append(z)
        if number < len(layers) - 1:
            h = activation(z)
    return passed


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean of −log softmax(logits)[label], and its gradient by the logits, equation (1).

    Args:
        logits: [batch, classes].
        labels: integers [batch].

    Returns:
        The loss, and [batch, classes].

    Raises:
        ValueError: a label is no class, or there are not as many as logits.
    """
    batch, classes = logits.shape
    if labels.shape != (batch,) or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"{batch} rows of logits need as many labels, each from 0 to {classes - 1}")
    rows = np.arange(batch)
    shifted = logits - logits.max(axis=1, keepdims=True)  # so that no exponential overflows
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    gradient = np.exp(log_probabilities)
    gradient[rows, labels] -= 1
    return -float(log_probabilities[rows, labels].mean()), gradient / batch


def backward(
    layers: Sequence[Layer], activation: Activation, passed: Forward, gradient: np.ndarray
) -> tuple[list[Layer], np.ndarray]:
    """Gradients by every weight and by the input, from the last layer to the first.

    Args:
        gradient: of the loss by the logits, [batch, classes].

    Returns:
        Gradients shaped as the layers, and by the input [batch, inputs].
    """
    gradients = []
    delta = gradient
    for number in reversed(range(len(layers))):
        gradients.append(Layer(passed.inputs[number].T @ delta, delta.sum(axis=0)))  # (2), (3)
        by_input = delta @ layers[number].weight.T  # (4)
        if number > 0:
            delta = by_input * activation.derivative(passed.sums[number - 1])  # (5)
    return gradients[::-1], by_input
