"""Squeeze-and-excitation: channels weighted by a summary of the whole image (Hu et al. 2018,
https://arxiv.org/abs/1709.01507)."""

from collections.abc import Callable

import torch
from torch import nn


class SqueezeExcitation(nn.Module):
    """Computes x · scale_activation(W₂ · activation(W₁ · mean of x over all positions)), one factor per channel.

    Both matrices are 1×1 convolutions, with torchvision's names.

    Args:
        input_channels: of the input and output.
        squeeze_channels: between the two matrices.
        activation: after the first; ReLU in the paper and in MobileNetV3, SiLU in EfficientNet.
        scale_activation: after the second; the sigmoid, or MobileNetV3's piecewise linear one.
    """

    def __init__(
        self,
        input_channels: int,
        squeeze_channels: int,
        activation: Callable[[], nn.Module] = nn.ReLU,
        scale_activation: Callable[[], nn.Module] = nn.Sigmoid,
    ) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(input_channels, squeeze_channels, 1)
        self.fc2 = nn.Conv2d(squeeze_channels, input_channels, 1)
        self.activation, self.scale_activation = activation(), scale_activation()

    def scale(self, x: torch.Tensor) -> torch.Tensor:
        """Computes the factors of the channels, [batch, channels, 1, 1], each from 0 to 1."""
        squeezed = x.mean(dim=(2, 3), keepdim=True)  # [batch, channels, 1, 1]
        factors: torch.Tensor = self.scale_activation(self.fc2(self.activation(self.fc1(squeezed))))
        return factors

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, channels, height, width] to the same."""
        return x * self.scale(x)
