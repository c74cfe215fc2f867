"""MobileNetV3 (Howard et al. 2019, https://arxiv.org/abs/1905.02244): inverted residuals whose shapes were found by
architecture search, with squeeze-and-excitation and a cheap approximation of swish.

Parameter names and shapes are torchvision's, whose weights load unchanged. Shapes: [batch, 3, height, width].
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from dlcommon.cnn.mobilenet import conv_norm_act, init_weights, round_channels
from dlcommon.cnn.squeeze_excitation import SqueezeExcitation


class HardSigmoid(nn.Module):
    """Computes min(max(x + 3, 0), 6) / 6, a piecewise linear sigmoid."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps any shape to the same."""
        return (x + 3).clamp(0, 6) / 6


class HardSwish(nn.Module):
    """Computes x · hard_sigmoid(x), which replaces swish, x · sigmoid(x) (section 5.2)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps any shape to the same."""
        return x * ((x + 3).clamp(0, 6) / 6)


class BlockConfig(NamedTuple):
    """Describes one block: a row of table 1 or 2."""

    kernel_size: int
    expanded_channels: int
    out_channels: int
    use_se: bool
    """Inserts squeeze-and-excitation."""
    use_hard_swish: bool
    """Hard swish, else ReLU."""
    stride: int


V3_LARGE = (
    BlockConfig(3, 16, 16, False, False, 1),
    BlockConfig(3, 64, 24, False, False, 2),
    BlockConfig(3, 72, 24, False, False, 1),
    BlockConfig(5, 72, 40, True, False, 2),
    BlockConfig(5, 120, 40, True, False, 1),
    BlockConfig(5, 120, 40, True, False, 1),
    BlockConfig(3, 240, 80, False, True, 2),
    BlockConfig(3, 200, 80, False, True, 1),
    BlockConfig(3, 184, 80, False, True, 1),
    BlockConfig(3, 184, 80, False, True, 1),
    BlockConfig(3, 480, 112, True, True, 1),
    BlockConfig(3, 672, 112, True, True, 1),
    BlockConfig(5, 672, 160, True, True, 2),
    BlockConfig(5, 960, 160, True, True, 1),
    BlockConfig(5, 960, 160, True, True, 1),
)

V3_SMALL = (
    BlockConfig(3, 16, 16, True, False, 2),
    BlockConfig(3, 72, 24, False, False, 2),
    BlockConfig(3, 88, 24, False, False, 1),
    BlockConfig(5, 96, 40, True, True, 2),
    BlockConfig(5, 240, 40, True, True, 1),
    BlockConfig(5, 240, 40, True, True, 1),
    BlockConfig(5, 120, 48, True, True, 1),
    BlockConfig(5, 144, 48, True, True, 1),
    BlockConfig(5, 288, 96, True, True, 2),
    BlockConfig(5, 576, 96, True, True, 1),
    BlockConfig(5, 576, 96, True, True, 1),
)

# Slower running statistics and a larger epsilon than torch's defaults, as in torchvision.
batch_norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)


class InvertedResidual(nn.Module):
    """Extends v2's block by larger kernels, and by squeeze-and-excitation before the projection."""

    def __init__(self, in_channels: int, config: BlockConfig) -> None:
        super().__init__()
        activation = HardSwish if config.use_hard_swish else nn.ReLU
        expanded = config.expanded_channels
        self.block = nn.Sequential()
        if config.expanded_channels != in_channels:
            self.block.append(conv_norm_act(in_channels, expanded, 1, 1, 1, activation, batch_norm))
        self.block.append(  # depthwise: as many groups as channels
            conv_norm_act(expanded, expanded, config.kernel_size, config.stride, expanded, activation, batch_norm)
        )
        if config.use_se:
            self.block.append(SqueezeExcitation(expanded, round_channels(expanded // 4), scale_activation=HardSigmoid))
        self.block.append(conv_norm_act(expanded, config.out_channels, 1, activation_layer=None, norm_layer=batch_norm))
        self.use_shortcut = config.stride == 1 and in_channels == config.out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, in_channels, height, width] to [batch, out_channels, height / stride, width / stride]."""
        output: torch.Tensor = x + self.block(x) if self.use_shortcut else self.block(x)
        return output


class MobileNetV3(nn.Module):
    """Stacks a stem, inverted residuals, a 1×1 convolution, global average pooling and two linear layers.

    Args:
        blocks: for example `V3_LARGE` or `V3_SMALL`.
        last_channel: outputs of the first linear layer; 1280 in the large network, 1024 in the small one.
        num_classes: outputs of the last layer.
        width_mult: multiplies the channels of all layers.
        stem_stride: 2, or 1 for images of 32×32.
        dropout: probability of zeroing an input of the last layer while training.
    """

    def __init__(
        self,
        blocks: Sequence[BlockConfig],
        last_channel: int,
        num_classes: int = 1000,
        width_mult: float = 1.0,
        stem_stride: int = 2,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        channels = round_channels(16 * width_mult)
        self.features = nn.Sequential(
            conv_norm_act(3, channels, 3, stem_stride, activation_layer=HardSwish, norm_layer=batch_norm)
        )
        for config in blocks:
            scaled = config._replace(
                expanded_channels=round_channels(config.expanded_channels * width_mult),
                out_channels=round_channels(config.out_channels * width_mult),
            )
            self.features.append(InvertedResidual(channels, scaled))
            channels = scaled.out_channels
        features = 6 * channels  # 960 in the large network, 576 in the small one
        self.features.append(conv_norm_act(channels, features, 1, activation_layer=HardSwish, norm_layer=batch_norm))
        last_channel = round_channels(last_channel * width_mult)
        self.classifier = nn.Sequential(
            nn.Linear(features, last_channel), HardSwish(), nn.Dropout(dropout), nn.Linear(last_channel, num_classes)
        )
        init_weights(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Computes the logits [batch, num_classes] of images [batch, 3, height, width]."""
        # The wide layer follows the pooling, so that it is computed at one position only (section 5.1).
        logits: torch.Tensor = self.classifier(self.features(images).mean(dim=(2, 3)))
        return logits


def mobilenet_v3_large(num_classes: int = 1000) -> MobileNetV3:
    """Builds MobileNetV3-large for images of 224×224."""
    return MobileNetV3(V3_LARGE, 1280, num_classes)


def mobilenet_v3_small(num_classes: int = 1000) -> MobileNetV3:
    """Builds MobileNetV3-small for images of 224×224."""
    return MobileNetV3(V3_SMALL, 1024, num_classes)
