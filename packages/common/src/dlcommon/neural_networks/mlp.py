"""The multilayer perceptron."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn


class MLP(nn.Module):
    """Stacks linear layers with batch norm, ReLU and dropout between them.

    Args:
        in_features: features of one sample; inputs of more axes are flattened.
        hidden_sizes: width of each hidden layer.
        out_features: width of the last layer, which is linear.
        dropout: probability of zeroing a hidden activation while training.
    """

    def __init__(self, in_features: int, hidden_sizes: Sequence[int], out_features: int, dropout: float = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for hidden_size in hidden_sizes:
            layers += [
                nn.Linear(in_features, hidden_size, bias=False),  # batch norm has a bias of its own
                nn.BatchNorm1d(hidden_size),
                nn.ReLU(),
                nn.Dropout(dropout),
            ]
            in_features = hidden_size
        self.layers = nn.Sequential(*layers, nn.Linear(in_features, out_features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, …] to [batch, out_features]."""
        output: torch.Tensor = self.layers(x)
        return output


def fuse_batch_norms(
    network: MLP, mean: np.ndarray | None = None, std: np.ndarray | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Fuses the batch norms of a trained network into its linear layers, between which only ReLU is left.

    Args:
        network: its running statistics are used, as in evaluation mode.
        mean: [in_features], subtracted from the inputs before training; fused in as well.
        std: [in_features], by which the inputs were divided before training; fused in as well.

    Returns:
        Weight [in_features, out_features] and bias [out_features] of each layer, float32.
    """
    in_features = next(module.in_features for module in network.layers if isinstance(module, nn.Linear))
    # The affine map scale·x + shift that is waiting to be fused into the linear layer after it.
    scale = np.ones(in_features) if std is None else 1 / std.astype(np.float64)
    shift = np.zeros(in_features) if mean is None else -mean * scale
    layers: list[tuple[np.ndarray, np.ndarray]] = []
    for module in network.layers:
        if isinstance(module, nn.Linear):
            weight = module.weight.detach().double().numpy().T
            bias = 0 if module.bias is None else module.bias.detach().double().numpy()
            # (scale·x + shift) W + b = x (scale·W) + (shift W + b)
            layers.append((scale[:, None] * weight, shift @ weight + bias))
            scale, shift = np.ones(weight.shape[1]), np.zeros(weight.shape[1])
        elif isinstance(module, nn.BatchNorm1d):
            statistics: Any = [module.running_var, module.running_mean, module.weight, module.bias]
            var, running_mean, gamma, beta = (value.detach().double().numpy() for value in statistics)
            factor = gamma / np.sqrt(var + module.eps)
            weight, bias = layers.pop()
            layers.append((weight * factor, (bias - running_mean) * factor + beta))
    return [(weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in layers]
