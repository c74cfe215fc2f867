"""The multilayer perceptron."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn


class MLP(nn.Module):
    """Linear layers with batch norm, ReLU and dropout between them.

    Args:
        inputs: features of one sample; inputs of more axes are flattened.
        hidden: width of each hidden layer.
        outputs: width of the last layer, which nothing follows.
        dropout: share of the hidden activations zeroed while training.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for width in hidden:
            layers += [
                nn.Linear(inputs, width, bias=False),
                nn.BatchNorm1d(width),
                nn.ReLU(),
                nn.Dropout(dropout),
            ]
            inputs = width
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, …] to [batch, outputs]."""
        return self.layers(x)


def folded(
    network: MLP, mean: np.ndarray | None = None, deviation: np.ndarray | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The trained network as affine layers between which only ReLU is left: batch norms are folded into them.

    Args:
        mean, deviation: [inputs], of a standardization that the network was trained behind; folded in as well.

    Returns:
        Weight [inputs, outputs] and bias [outputs] of each layer, float32.
    """
    inputs = next(module.in_features for module in network.layers if isinstance(module, nn.Linear))
    scale = np.ones(inputs) if deviation is None else 1 / deviation.astype(np.float64)
    shift = np.zeros(inputs) if mean is None else -mean * scale
    layers: list[tuple[np.ndarray, np.ndarray]] = []
    for module in network.layers:
        if isinstance(module, nn.Linear):
            weight = module.weight.detach().double().numpy().T
            bias = 0 if module.bias is None else module.bias.detach().double().numpy()
            layers.append((scale[:, None] * weight, shift @ weight + bias))
            scale, shift = np.ones(weight.shape[1]), np.zeros(weight.shape[1])
        elif isinstance(module, nn.BatchNorm1d):
            running: Any = [module.running_var, module.running_mean, module.weight, module.bias]
            variance, centre, gain, offset = (value.detach().double().numpy() for value in running)
            factor = gain / np.sqrt(variance + module.eps)
            weight, bias = layers.pop()
            layers.append((weight * factor, (bias - centre) * factor + offset))
    return [(weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in layers]
