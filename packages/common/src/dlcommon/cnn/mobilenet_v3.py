"""MobileNetV3 (Howard et al. 2019, https://arxiv.org/abs/1905.02244): inverted residuals whose shapes a search chose,
with squeeze-and-excitation and a cheap stand-in for swish.

Parameter names and shapes are torchvision's, so that its weights load unchanged. Shapes: [batch, 3, height, width].
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from dlcommon.cnn.mobilenet import conv_norm, initialize, round_channels
from dlcommon.cnn.squeeze_excitation import SqueezeExcitation


class HardSigmoid(nn.Module):
    """min(max(x + 3, 0), 6) / 6: the sigmoid in straight lines."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x + 3).clamp(0, 6) / 6


class HardSwish(nn.Module):
    """x · hard sigmoid(x), in place of swish, x · sigmoid(x) (section 5.2)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * ((x + 3).clamp(0, 6) / 6)


class Row(NamedTuple):
    """Of tables 1 and 2: one block."""

    kernel: int
    hidden: int
    outputs: int
    squeeze: bool
    swish: bool
    """Hard swish, else ReLU."""
    stride: int


LARGE = (
    Row(3, 16, 16, False, False, 1), Row(3, 64, 24, False, False, 2), Row(3, 72, 24, False, False, 1),
    Row(5, 72, 40, True, False, 2), Row(5, 120, 40, True, False, 1), Row(5, 120, 40, True, False, 1),
    Row(3, 240, 80, False, True, 2), Row(3, 200, 80, False, True, 1), Row(3, 184, 80, False, True, 1),
    Row(3, 184, 80, False, True, 1), Row(3, 480, 112, True, True, 1), Row(3, 672, 112, True, True, 1),
    Row(5, 672, 160, True, True, 2), Row(5, 960, 160, True, True, 1), Row(5, 960, 160, True, True, 1),
)  # fmt: skip

SMALL = (
    Row(3, 16, 16, True, False, 2), Row(3, 72, 24, False, False, 2), Row(3, 88, 24, False, False, 1),
    Row(5, 96, 40, True, True, 2), Row(5, 240, 40, True, True, 1), Row(5, 240, 40, True, True, 1),
    Row(5, 120, 48, True, True, 1), Row(5, 144, 48, True, True, 1),
    Row(5, 288, 96, True, True, 2), Row(5, 576, 96, True, True, 1), Row(5, 576, 96, True, True, 1),
)  # fmt: skip

batch_norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)


class InvertedResidual(nn.Module):
    """That of v2 with a larger kernel where the search wanted one, and squeeze-and-excitation before the way back."""

    def __init__(self, inputs: int, row: Row) -> None:
        super().__init__()
        activation = HardSwish if row.swish else nn.ReLU
        self.block = nn.Sequential()
        if row.hidden != inputs:
            self.block.append(conv_norm(inputs, row.hidden, 1, activation=activation, norm=batch_norm))
        self.block.append(conv_norm(row.hidden, row.hidden, row.kernel, row.stride, row.hidden, activation, batch_norm))
        if row.squeeze:
            self.block.append(SqueezeExcitation(row.hidden, round_channels(row.hidden // 4), gate=HardSigmoid))
        self.block.append(conv_norm(row.hidden, row.outputs, 1, activation=None, norm=batch_norm))
        self.shortcut = row.stride == 1 and inputs == row.outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.block(x) if self.shortcut else self.block(x)


class MobileNetV3(nn.Module):
    """Stem, inverted residuals, a 1×1 convolution, global average pooling, two linear layers.

    Args:
        rows: the blocks, `LARGE` or `SMALL` or what is wanted.
        hidden: outputs of the first linear layer; 1280 in the large network, 1024 in the small one.
        classes: outputs of the last layer.
        width: multiplies the channels of all layers.
        stem_stride: 1 is for images of 32×32.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        hidden: int,
        classes: int = 1000,
        width: float = 1.0,
        stem_stride: int = 2,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        channels = round_channels(16 * width)
        self.features = nn.Sequential(conv_norm(3, channels, 3, stem_stride, activation=HardSwish, norm=batch_norm))
        for row in rows:
            scaled = row._replace(
                hidden=round_channels(row.hidden * width), outputs=round_channels(row.outputs * width)
            )
            self.features.append(InvertedResidual(channels, scaled))
            channels = scaled.outputs
        last = 6 * channels
        self.features.append(conv_norm(channels, last, 1, activation=HardSwish, norm=batch_norm))
        hidden = round_channels(hidden * width)
        self.classifier = nn.Sequential(
            nn.Linear(last, hidden), HardSwish(), nn.Dropout(dropout), nn.Linear(hidden, classes)
        )
        initialize(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [batch, classes]."""
        # Pooling comes before the wide linear layer, which the paper moved behind it (section 5.1).
        return self.classifier(self.features(images).mean(dim=(2, 3)))


def mobilenet_v3_large(classes: int = 1000) -> MobileNetV3:
    return MobileNetV3(LARGE, 1280, classes)


def mobilenet_v3_small(classes: int = 1000) -> MobileNetV3:
    return MobileNetV3(SMALL, 1024, classes)
