"""Independent multilayer perceptrons of one shape, computed together: experiments over seeds at the cost of one."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F


class StackedMLP(nn.Module):
    """Runs `copies` perceptrons, each on its own batch, as products of stacked matrices.

    A loss that is the sum of the copies' losses gives each the gradient that it would have alone, and optimizers such
    as Adam, which treat every weight by itself, train them as if they were apart.

    Args:
        copies: number of networks.
        sizes: widths from the input to the output; leaky ReLU of slope 0.2 between the layers.

    Raises:
        ValueError: fewer than two sizes.
    """

    def __init__(self, copies: int, *sizes: int) -> None:
        super().__init__()
        if len(sizes) < 2:
            raise ValueError(f"need an input and an output size, not {sizes}")
        shapes = list(pairwise(sizes))
        self.weights = nn.ParameterList(
            torch.randn(copies, fan_in, out) * (2 / fan_in) ** 0.5 for fan_in, out in shapes
        )
        self.biases = nn.ParameterList(torch.zeros(copies, 1, out) for _, out in shapes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [copies, batch, first size] to [copies, batch, last size]."""
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if layer:
                x = F.leaky_relu(x, 0.2)
            x = torch.baddbmm(bias, x, weight)
        return x
