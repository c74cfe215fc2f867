"""The multilayer perceptron."""

from collections.abc import Sequence

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
