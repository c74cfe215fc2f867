"""EfficientNet (Tan & Le 2019, https://arxiv.org/abs/1905.11946): one searched network, B0, scaled in depth, width and
resolution together.

Parameter names and shapes are torchvision's, so that its weights load unchanged. Shapes: [batch, 3, height, width].
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from dlcommon.cnn.mobilenet import conv_norm, round_channels
from dlcommon.cnn.squeeze_excitation import SqueezeExcitation


class Stage(NamedTuple):
    """A row of table 1."""

    expansion: int
    kernel: int
    stride: int
    channels: int
    depth: int


B0 = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)

SCALES = (
    (1.0, 1.0, 224, 0.2), (1.0, 1.1, 240, 0.2), (1.1, 1.2, 260, 0.3), (1.2, 1.4, 300, 0.3),
    (1.4, 1.8, 380, 0.4), (1.6, 2.2, 456, 0.4), (1.8, 2.6, 528, 0.5), (2.0, 3.1, 600, 0.5),
)  # fmt: skip
"""B0 to B7: width, depth, image side, dropout, as the authors' code has them; the paper gives the rule only: depth
1.2^φ, width 1.1^φ, resolution 1.15^φ (equation 3)."""


class StochasticDepth(nn.Module):
    """While training, leaves a block's branch out for some images (Huang et al. 2016,
    https://arxiv.org/abs/1603.09382).

    What is kept is divided by the share that is kept, as in dropout, so that evaluation needs no correction; the paper
    multiplies in evaluation instead.
    """

    def __init__(self, drop: float) -> None:
        super().__init__()
        if not 0 <= drop < 1:
            raise ValueError(f"a share of {drop} cannot be dropped: from 0 to below 1")
        self.drop = drop

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        if not self.training or self.drop == 0:
            return branch
        kept = branch.new_empty(len(branch), 1, 1, 1).bernoulli_(1 - self.drop)
        return branch * kept / (1 - self.drop)


class MBConv(nn.Module):
    """MobileNetV2's inverted residual with SiLU and squeeze-and-excitation.

    Args:
        inputs: channels, of which a quarter remains in the squeeze, whatever the expansion.
        squeeze: whether there is squeeze-and-excitation.
        drop: share of images for which the branch is left out while training.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, squeeze: bool, drop: float
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.block = nn.Sequential()
        if expansion != 1:
            self.block.append(conv_norm(inputs, hidden, 1, activation=nn.SiLU))
        self.block.append(conv_norm(hidden, hidden, kernel, stride, groups=hidden, activation=nn.SiLU))
        if squeeze:
            self.block.append(SqueezeExcitation(hidden, max(1, inputs // 4), activation=nn.SiLU))
        self.block.append(conv_norm(hidden, outputs, 1, activation=None))
        self.shortcut = stride == 1 and inputs == outputs
        self.stochastic_depth = StochasticDepth(drop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.stochastic_depth(self.block(x)) if self.shortcut else self.block(x)


class EfficientNet(nn.Module):
    """Stem, seven stages of MBConv, a 1×1 convolution, global average pooling, dropout, linear layer.

    Args:
        classes: outputs of the last layer.
        width: multiplies the channels.
        depth: multiplies the blocks of each stage.
        dropout: share of the pooled features zeroed while training.
        drop: share of images that leave out the last block; it grows from 0 at the first, linearly.
        stages: those of B0, or others.
        stem_stride: 1 is for images of 32×32.
        squeeze: whether blocks have squeeze-and-excitation.
    """

    def __init__(
        self,
        classes: int = 1000,
        width: float = 1.0,
        depth: float = 1.0,
        dropout: float = 0.2,
        drop: float = 0.2,
        stages: Sequence[Stage] = B0,
        stem_stride: int = 2,
        squeeze: bool = True,
    ) -> None:
        super().__init__()
        channels = round_channels(32 * width)
        self.features = nn.Sequential(conv_norm(3, channels, 3, stem_stride, activation=nn.SiLU))
        depths = [math.ceil(stage.depth * depth) for stage in stages]
        number = 0
        for (expansion, kernel, stride, outputs, _), blocks in zip(stages, depths, strict=True):
            outputs = round_channels(outputs * width)
            stage = nn.Sequential()
            for block in range(blocks):
                step = stride if block == 0 else 1
                share = drop * number / sum(depths)
                stage.append(MBConv(channels, outputs, kernel, step, expansion, squeeze, share))
                channels, number = outputs, number + 1
            self.features.append(stage)
        last = 4 * channels
        self.features.append(conv_norm(channels, last, 1, activation=nn.SiLU))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [batch, classes]."""
        return self.classifier(self.features(images).mean(dim=(2, 3)))


def efficientnet(number: int, classes: int = 1000) -> EfficientNet:
    """B0 to B7; each is meant for images of the side in `SCALES`.

    torchvision's B5 to B7 have an epsilon of 0.001 in their batch norms, a hundred times ours.
    """
    width, depth, _, dropout = SCALES[number]
    return EfficientNet(classes, width, depth, dropout)
