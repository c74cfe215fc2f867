"""MobileNet v1 (Howard et al. 2017, https://arxiv.org/abs/1704.04861) and v2 (Sandler et al. 2018,
https://arxiv.org/abs/1801.04381): convolutions factorized into a spatial and a channel part.

Parameter names and shapes are timm's for v1 (`mobilenetv1_100`) and torchvision's for v2, whose weights load unchanged.
Shapes: [batch, 3, height, width]. `width_mult` multiplies the channels of all layers; `stem_stride` 1 suits images of
32×32.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn

V1_STAGES = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))
"""Table 1 of the first paper, by stage: channels, number of blocks, stride of the first block."""

V2_STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
"""Table 2 of the second paper, by stage: expand ratio, channels, number of blocks, stride of the first block."""


def round_channels(channels: float, divisor: int = 8) -> int:
    """Rounds to the nearest multiple of `divisor`, which hardware prefers, but never down by more than 10 %."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def conv_norm_act(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    groups: int = 1,
    activation_layer: Callable[[], nn.Module] | None = nn.ReLU6,
    norm_layer: Callable[[int], nn.Module] = nn.BatchNorm2d,
) -> nn.Sequential:
    """Builds a convolution padded to keep the size (divided by the stride), its norm, and the activation if any."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
    activation = [activation_layer()] if activation_layer else []
    return nn.Sequential(conv, norm_layer(out_channels), *activation)


def init_weights(network: nn.Module) -> None:
    """Draws convolutions by He et al. 2015 with fan_out, and small weights in linear layers; biases become 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


class DepthwiseSeparableConv(nn.Module):
    """Applies a depthwise 3×3 convolution (each channel by itself), then a pointwise 1×1 one (each position by itself).

    Takes 1/out_channels + 1/9 of the multiply-adds of a dense 3×3 convolution (section 3.1).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        # groups = channels: every channel has a kernel of its own.
        self.conv_dw = nn.Conv2d(in_channels, in_channels, 3, stride, padding=1, groups=in_channels, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv_pw = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.activation = nn.ReLU6()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, in_channels, height, width] to [batch, out_channels, height / stride, width / stride]."""
        x = self.activation(self.bn1(self.conv_dw(x)))  # [batch, in_channels, height / stride, width / stride]
        output: torch.Tensor = self.activation(self.bn2(self.conv_pw(x)))
        return output


class MobileNetV1(nn.Module):
    """Stacks a stem, thirteen depthwise separable convolutions, global average pooling and a linear layer."""

    def __init__(
        self,
        num_classes: int = 1000,
        width_mult: float = 1.0,
        stages: Sequence[tuple[int, int, int]] = V1_STAGES,
        stem_stride: int = 2,
    ) -> None:
        super().__init__()
        channels = round_channels(32 * width_mult)
        self.conv_stem = nn.Conv2d(3, channels, 3, stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.activation = nn.ReLU6()
        self.blocks = nn.Sequential()
        for base_channels, num_blocks, stride in stages:
            out_channels = round_channels(base_channels * width_mult)
            stage = nn.Sequential()
            for block in range(num_blocks):
                stage.append(DepthwiseSeparableConv(channels, out_channels, stride if block == 0 else 1))
                channels = out_channels
            self.blocks.append(stage)
        self.classifier = nn.Linear(channels, num_classes)
        init_weights(self)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Computes the last stage's output, [batch, channels, height / 32, width / 32] for a stem_stride of 2."""
        output: torch.Tensor = self.blocks(self.activation(self.bn1(self.conv_stem(images))))
        return output

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Computes the logits [batch, num_classes] of images [batch, 3, height, width]."""
        logits: torch.Tensor = self.classifier(self.features(images).mean(dim=(2, 3)))
        return logits


class InvertedResidual(nn.Module):
    """Computes x + F(x), where F expands by 1×1, filters by depthwise 3×3 and projects by 1×1 without an activation.

    It is a residual bottleneck turned inside out: the shortcut joins the narrow ends. The last convolution stays linear
    since a ReLU would destroy too much of what few channels hold (section 3.2). Where the shape changes there is no
    shortcut.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand_ratio: int) -> None:
        super().__init__()
        hidden_channels = in_channels * expand_ratio
        # With an expand ratio of 1 the block starts at the depthwise convolution.
        expand = [conv_norm_act(in_channels, hidden_channels, 1)] if expand_ratio != 1 else []
        self.conv = nn.Sequential(
            *expand,
            conv_norm_act(hidden_channels, hidden_channels, 3, stride, groups=hidden_channels),
            *conv_norm_act(hidden_channels, out_channels, 1, activation_layer=None),
        )
        self.use_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, in_channels, height, width] to [batch, out_channels, height / stride, width / stride]."""
        output: torch.Tensor = x + self.conv(x) if self.use_shortcut else self.conv(x)
        return output


class MobileNetV2(nn.Module):
    """Stacks a stem, seventeen inverted residuals, a 1×1 convolution, global average pooling and a linear layer."""

    def __init__(
        self,
        num_classes: int = 1000,
        width_mult: float = 1.0,
        stages: Sequence[tuple[int, int, int, int]] = V2_STAGES,
        stem_stride: int = 2,
        last_channel: int = 1280,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        channels = round_channels(32 * width_mult)
        self.features = nn.Sequential(conv_norm_act(3, channels, 3, stem_stride))
        for expand_ratio, base_channels, num_blocks, stride in stages:
            out_channels = round_channels(base_channels * width_mult)
            for block in range(num_blocks):
                block_stride = stride if block == 0 else 1
                self.features.append(InvertedResidual(channels, out_channels, block_stride, expand_ratio))
                channels = out_channels
        last_channel = round_channels(last_channel * max(1.0, width_mult))
        self.features.append(conv_norm_act(channels, last_channel, 1))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last_channel, num_classes))
        init_weights(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Computes the logits [batch, num_classes] of images [batch, 3, height, width]."""
        logits: torch.Tensor = self.classifier(self.features(images).mean(dim=(2, 3)))
        return logits
