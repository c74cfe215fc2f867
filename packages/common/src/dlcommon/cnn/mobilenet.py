"""MobileNet v1 (Howard et al. 2017, https://arxiv.org/abs/1704.04861) and v2 (Sandler et al. 2018,
https://arxiv.org/abs/1801.04381): a convolution split into one for space and one for channels.

Parameter names and shapes are timm's for v1 (`mobilenetv1_100`) and torchvision's for v2, so that their weights load
unchanged. Shapes: [batch, 3, height, width]. `width` multiplies the channels of all layers; `stem_stride` 1 is for
images of 32×32.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn

V1 = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))
"""Table 1 of the first paper, by stages: channels, blocks, stride of the first one."""

V2 = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
"""Table 2 of the second: expansion, channels, blocks, stride of the first one."""


def round_channels(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of the divisor, which hardware likes, but never more than 10 % below."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def conv_norm(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    activation: Callable[[], nn.Module] | None = nn.ReLU6,
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
) -> nn.Sequential:
    """A convolution that keeps the size (divided by the stride), its norm, and the activation if there is one."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, norm(outputs), *([activation()] if activation else []))


def initialize(network: nn.Module) -> None:
    """He et al. 2015 for the convolutions, with the outputs' fan; small weights in linear layers."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


class SeparableConvolution(nn.Module):
    """A depthwise 3×3 convolution (each channel by itself), then a 1×1 convolution (each place by itself).

    Costs 1/outputs + 1/9 of the 3×3 convolution with the same inputs and outputs.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(inputs, inputs, 3, stride, padding=1, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv_pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.activation = nn.ReLU6()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.activation(self.bn1(self.conv_dw(x)))
        return self.activation(self.bn2(self.conv_pw(x)))


class MobileNetV1(nn.Module):
    """Stem, thirteen separable convolutions, global average pooling, linear layer."""

    def __init__(
        self,
        classes: int = 1000,
        width: float = 1.0,
        stages: Sequence[tuple[int, int, int]] = V1,
        stem_stride: int = 2,
    ) -> None:
        super().__init__()
        channels = round_channels(32 * width)
        self.conv_stem = nn.Conv2d(3, channels, 3, stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.activation = nn.ReLU6()
        self.blocks = nn.Sequential()
        for outputs, depth, stride in stages:
            outputs = round_channels(outputs * width)
            stage = nn.Sequential()
            for block in range(depth):
                stage.append(SeparableConvolution(channels, outputs, stride if block == 0 else 1))
                channels = outputs
            self.blocks.append(stage)
        self.classifier = nn.Linear(channels, classes)
        initialize(self)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """The last stage's activations [batch, channels, height, width]."""
        return self.blocks(self.activation(self.bn1(self.conv_stem(images))))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [batch, classes]."""
        return self.classifier(self.features(images).mean(dim=(2, 3)))


class InvertedResidual(nn.Module):
    """x + F(x), F: 1×1 to many channels, depthwise 3×3, 1×1 back to few, without an activation behind it.

    A residual block's bottleneck inside out: the narrow ends are joined. The last convolution stays linear since a
    ReLU would lose too much of what few channels hold (section 3.2). Where the shape changes there is no shortcut.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [conv_norm(inputs, hidden, 1)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *expand,
            conv_norm(hidden, hidden, 3, stride, groups=hidden),
            *conv_norm(hidden, outputs, 1, activation=None),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) if self.shortcut else self.conv(x)


class MobileNetV2(nn.Module):
    """Stem, seventeen inverted residuals, a 1×1 convolution, global average pooling, dropout, linear layer."""

    def __init__(
        self,
        classes: int = 1000,
        width: float = 1.0,
        stages: Sequence[tuple[int, int, int, int]] = V2,
        stem_stride: int = 2,
        last: int = 1280,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        channels = round_channels(32 * width)
        self.features = nn.Sequential(conv_norm(3, channels, 3, stem_stride))
        for expansion, outputs, depth, stride in stages:
            outputs = round_channels(outputs * width)
            for block in range(depth):
                first = block == 0
                self.features.append(InvertedResidual(channels, outputs, stride if first else 1, expansion))
                channels = outputs
        last = round_channels(last * max(1.0, width))
        self.features.append(conv_norm(channels, last, 1))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, classes))
        initialize(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [batch, classes]."""
        return self.classifier(self.features(images).mean(dim=(2, 3)))
