"""Squeeze-and-excitation: the whole image decides how much each channel counts (Hu et al. 2018,
https://arxiv.org/abs/1709.01507)."""

from collections.abc import Callable

import torch
from torch import nn


class SqueezeExcitation(nn.Module):
    """x · gate(W₂ · activation(W₁ · mean of x over all places)), one factor a channel.

    Both matrices are 1×1 convolutions, as in torchvision, whose names they bear.

    Args:
        channels: of the input and output.
        squeezed: channels between the two matrices.
        activation: after the first; ReLU in the paper and in MobileNetV3, SiLU in EfficientNet.
        gate: after the second; the sigmoid, or MobileNetV3's piecewise linear one.
    """

    def __init__(
        self,
        channels: int,
        squeezed: int,
        activation: Callable[[], nn.Module] = nn.ReLU,
        gate: Callable[[], nn.Module] = nn.Sigmoid,
    ) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.activation, self.gate = activation(), gate()

    def factors(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, channels, 1, 1], each from 0 to 1."""
        mean = x.mean(dim=(2, 3), keepdim=True)
        return self.gate(self.fc2(self.activation(self.fc1(mean))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factors(x)
