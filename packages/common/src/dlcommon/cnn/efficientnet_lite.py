"""EfficientNet-Lite0: EfficientNet-B0 for phones, without squeeze-and-excitation and with ReLU6 instead of SiLU.

Published by EfficientNet's authors without a paper of its own. Parameter names and shapes are those of timm's
`tf_efficientnet_lite0`, whose weights load unchanged. As in TensorFlow, a strided convolution pads more on the right
and bottom than on the left and top, and batch norm's epsilon is 0.001. Shapes: [batch, channels, height, width].
"""

import math
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dlcommon.cnn.efficientnet import B0, MBConvConfig

EPSILON = 1e-3
FEATURES = 1280
"""Channels of what global pooling averages."""


class SamePadConv(nn.Conv2d):
    """Pads as TensorFlow does: the output has ⌈size / stride⌉ pixels, and an odd row of padding is at the end."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, in_channels, height, width] to [batch, out_channels, ⌈height / stride⌉, ⌈width / stride⌉]."""
        padding: list[int] = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max(0, (math.ceil(size / stride) - 1) * stride + kernel - size)
            padding += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, padding), self.weight, self.bias, self.stride, groups=self.groups)


def convolution(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Makes a convolution without bias, as batch norm follows; padded evenly where that is TensorFlow's padding too."""
    if stride == 1:
        return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, groups=groups, bias=False)
    return SamePadConv(in_channels, out_channels, kernel_size, stride, groups=groups, bias=False)


class DepthwiseSeparable(nn.Module):
    """Filters each channel, then mixes channels: the block of expand ratio 1."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = convolution(in_channels, in_channels, kernel_size, stride, in_channels)
        self.bn1 = nn.BatchNorm2d(in_channels, EPSILON)
        self.conv_pw = convolution(in_channels, out_channels, 1)
        self.bn2 = nn.BatchNorm2d(out_channels, EPSILON)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, in_channels, height, width] to [batch, out_channels, height / stride, width / stride]."""
        output: torch.Tensor = self.bn2(self.conv_pw(F.relu6(self.bn1(self.conv_dw(x)))))
        return output


class InvertedResidual(nn.Module):
    """Expands the channels, filters each, and mixes them down again; beside a shortcut where the shape stays."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, expand_ratio: int) -> None:
        super().__init__()
        hidden = in_channels * expand_ratio
        self.conv_pw = convolution(in_channels, hidden, 1)
        self.bn1 = nn.BatchNorm2d(hidden, EPSILON)
        self.conv_dw = convolution(hidden, hidden, kernel_size, stride, hidden)
        self.bn2 = nn.BatchNorm2d(hidden, EPSILON)
        self.conv_pwl = convolution(hidden, out_channels, 1)
        self.bn3 = nn.BatchNorm2d(out_channels, EPSILON)
        self.use_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, in_channels, height, width] to [batch, out_channels, height / stride, width / stride]."""
        branch = F.relu6(self.bn1(self.conv_pw(x)))  # [batch, hidden, height, width]
        branch = F.relu6(self.bn2(self.conv_dw(branch)))
        branch = self.bn3(self.conv_pwl(branch))
        output: torch.Tensor = x + branch if self.use_shortcut else branch
        return output


class EfficientNetLite0(nn.Module):
    """Classifies images normalized to [−1, 1] into ImageNet's 1,000 classes; made for 224×224 pixels."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.conv_stem = convolution(3, 32, 3, stride=2)
        self.bn1 = nn.BatchNorm2d(32, EPSILON)
        stages, channels = [], 32
        for stage in B0:
            stages.append(nn.Sequential(*_blocks(channels, stage)))
            channels = stage.out_channels
        self.blocks = nn.Sequential(*stages)
        self.conv_head = convolution(channels, FEATURES, 1)
        self.bn2 = nn.BatchNorm2d(FEATURES, EPSILON)
        self.classifier = nn.Linear(FEATURES, num_classes)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Maps images [batch, 3, height, width] to what global average pooling leaves, [batch, 1280]."""
        x = self.blocks(F.relu6(self.bn1(self.conv_stem(images))))
        return F.relu6(self.bn2(self.conv_head(x))).mean(dim=(2, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps images to logits [batch, num_classes]."""
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits

    def load_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Loads timm's weights by their names, or others of the same tensors in the same order.

        Raises:
            ValueError: there are more or fewer tensors, or one has another shape.
        """
        own = {name: value for name, value in self.state_dict().items() if not name.endswith("num_batches_tracked")}
        given = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
        if given.keys() != own.keys():
            given = dict(zip(own, given.values(), strict=True))
        for name, value in given.items():
            if value.shape != own[name].shape:
                raise ValueError(f"{name} has the shape {list(value.shape)}, not {list(own[name].shape)}")
        self.load_state_dict(given, strict=False)


def _blocks(in_channels: int, stage: MBConvConfig) -> list[nn.Module]:
    """Builds the blocks of one stage; the first has the stage's stride."""
    blocks: list[nn.Module] = []
    for number in range(stage.num_layers):
        stride = stage.stride if number == 0 else 1
        if stage.expand_ratio == 1:
            blocks.append(DepthwiseSeparable(in_channels, stage.out_channels, stage.kernel_size, stride))
        else:
            blocks.append(
                InvertedResidual(in_channels, stage.out_channels, stage.kernel_size, stride, stage.expand_ratio)
            )
        in_channels = stage.out_channels
    return blocks


@torch.no_grad()
def fold_batch_norms(network: nn.Module) -> None:
    """Multiplies every batch norm into the convolution before it, in place, which makes evaluation faster.

    In every module, a batch norm must be defined right after the convolution that it follows.
    """
    for module in network.modules():
        before: tuple[str, nn.Conv2d] | None = None
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d) and before is not None:
                setattr(module, before[0], fuse_conv_bn_eval(before[1].eval(), child.eval()))
                setattr(module, name, nn.Identity())
            before = (name, child) if isinstance(child, nn.Conv2d) else None
