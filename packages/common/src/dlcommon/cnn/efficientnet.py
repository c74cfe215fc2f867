"""EfficientNet (Tan & Le 2019, https://arxiv.org/abs/1905.11946): a network found by search, B0, scaled jointly in
depth, width and resolution.

Parameter names and shapes are torchvision's, whose weights load unchanged. Shapes: [batch, 3, height, width].
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from dlcommon.cnn.mobilenet import conv_norm_act, round_channels
from dlcommon.cnn.squeeze_excitation import SqueezeExcitation


class MBConvConfig(NamedTuple):
    """Describes one stage of MBConv blocks: a row of table 1."""

    expand_ratio: int
    kernel_size: int
    stride: int
    """Of the first block; the others have 1."""
    out_channels: int
    num_layers: int


B0 = (
    MBConvConfig(1, 3, 1, 16, 1),
    MBConvConfig(6, 3, 2, 24, 2),
    MBConvConfig(6, 5, 2, 40, 2),
    MBConvConfig(6, 3, 2, 80, 3),
    MBConvConfig(6, 5, 1, 112, 3),
    MBConvConfig(6, 5, 2, 192, 4),
    MBConvConfig(6, 3, 1, 320, 1),
)

SCALES = (
    (1.0, 1.0, 224, 0.2), (1.0, 1.1, 240, 0.2), (1.1, 1.2, 260, 0.3), (1.2, 1.4, 300, 0.3),
    (1.4, 1.8, 380, 0.4), (1.6, 2.2, 456, 0.4), (1.8, 2.6, 528, 0.5), (2.0, 3.1, 600, 0.5),
)  # fmt: skip
"""B0 to B7: width_mult, depth_mult, image size, dropout, from the authors' code. The paper gives only the rule: depth
1.2^φ, width 1.1^φ, resolution 1.15^φ (equation 3)."""


class StochasticDepth(nn.Module):
    """Drops a block's residual branch for random images while training (Huang et al. 2016,
    https://arxiv.org/abs/1603.09382).

    Surviving branches are divided by the probability of survival, as in dropout, so that evaluation needs no
    correction; the paper multiplies in evaluation instead.

    Args:
        p: probability that the branch is dropped.

    Raises:
        ValueError: `p` is not in [0, 1).
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"the probability of dropping a branch must lie in [0, 1), not {p}")
        self.p = p

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        """Maps [batch, channels, height, width] to the same."""
        if not self.training or self.p == 0:
            return branch
        # One draw per image: a whole branch is dropped or kept.
        mask = branch.new_empty(len(branch), 1, 1, 1).bernoulli_(1 - self.p)
        return branch * mask / (1 - self.p)


class MBConv(nn.Module):
    """Extends MobileNetV2's inverted residual by SiLU, squeeze-and-excitation and stochastic depth.

    Args:
        in_channels: of the input; the squeeze has a quarter of them, whatever the expand ratio.
        out_channels: of the output.
        kernel_size: of the depthwise convolution.
        stride: of the depthwise convolution; with another than 1 there is no shortcut.
        expand_ratio: channels of the depthwise convolution, relative to `in_channels`.
        use_se: inserts squeeze-and-excitation.
        stochastic_depth_prob: probability of dropping the branch while training.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        expand_ratio: int,
        use_se: bool,
        stochastic_depth_prob: float,
    ) -> None:
        super().__init__()
        hidden_channels = in_channels * expand_ratio
        self.block = nn.Sequential()
        if expand_ratio != 1:
            self.block.append(conv_norm_act(in_channels, hidden_channels, 1, activation_layer=nn.SiLU))
        self.block.append(
            conv_norm_act(
                hidden_channels, hidden_channels, kernel_size, stride, groups=hidden_channels, activation_layer=nn.SiLU
            )
        )
        if use_se:
            self.block.append(SqueezeExcitation(hidden_channels, max(1, in_channels // 4), activation=nn.SiLU))
        self.block.append(conv_norm_act(hidden_channels, out_channels, 1, activation_layer=None))
        self.use_shortcut = stride == 1 and in_channels == out_channels
        self.stochastic_depth = StochasticDepth(stochastic_depth_prob)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, in_channels, height, width] to [batch, out_channels, height / stride, width / stride]."""
        # Only a branch beside a shortcut is dropped: without one nothing would be left of the image.
        output: torch.Tensor = x + self.stochastic_depth(self.block(x)) if self.use_shortcut else self.block(x)
        return output


class EfficientNet(nn.Module):
    """Stacks a stem, seven stages of MBConv, a 1×1 convolution, global average pooling, dropout and a linear layer.

    Args:
        num_classes: outputs of the last layer.
        width_mult: multiplies the channels.
        depth_mult: multiplies the blocks of each stage.
        dropout: probability of zeroing a pooled feature while training.
        stochastic_depth_prob: probability of dropping the last block's branch; it grows linearly from 0 at the first.
        stages: those of B0 by default.
        stem_stride: 2, or 1 for images of 32×32.
        use_se: inserts squeeze-and-excitation in every block.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        width_mult: float = 1.0,
        depth_mult: float = 1.0,
        dropout: float = 0.2,
        stochastic_depth_prob: float = 0.2,
        stages: Sequence[MBConvConfig] = B0,
        stem_stride: int = 2,
        use_se: bool = True,
    ) -> None:
        super().__init__()
        channels = round_channels(32 * width_mult)
        self.features = nn.Sequential(conv_norm_act(3, channels, 3, stem_stride, activation_layer=nn.SiLU))
        depths = [math.ceil(stage.num_layers * depth_mult) for stage in stages]
        index = 0  # of the block, over all stages
        for (expand_ratio, kernel_size, stride, base_channels, _), depth in zip(stages, depths, strict=True):
            # Widths are rounded to multiples of 8, depths are rounded up.
            out_channels = round_channels(base_channels * width_mult)
            stage = nn.Sequential()
            for block in range(depth):
                block_stride = stride if block == 0 else 1
                drop_prob = stochastic_depth_prob * index / sum(depths)
                stage.append(MBConv(channels, out_channels, kernel_size, block_stride, expand_ratio, use_se, drop_prob))
                channels, index = out_channels, index + 1
            self.features.append(stage)
        features = 4 * channels  # 1280 in B0
        self.features.append(conv_norm_act(channels, features, 1, activation_layer=nn.SiLU))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(features, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Computes the logits [batch, num_classes] of images [batch, 3, height, width]."""
        logits: torch.Tensor = self.classifier(self.features(images).mean(dim=(2, 3)))
        return logits


def efficientnet(variant: int, num_classes: int = 1000) -> EfficientNet:
    """Builds B0 to B7 by the number of the variant; `SCALES` has the image size that each is meant for.

    torchvision's B5 to B7 have an eps of 0.001 in their batch norms, a hundred times ours.
    """
    width_mult, depth_mult, _, dropout = SCALES[variant]
    return EfficientNet(num_classes, width_mult, depth_mult, dropout)
