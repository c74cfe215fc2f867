"""Residual blocks and ResNet (He et al. 2016, https://arxiv.org/abs/1512.03385).

Parameter names and shapes are torchvision's, whose weights load unchanged.
Shapes: [batch, channels, height, width].
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F


def convolution(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    """Builds a convolution padded to keep the size (divided by the stride), without bias, for batch norm to follow."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)


class BasicBlock(nn.Module):
    """Computes relu(x + F(x)), where F is two 3×3 convolutions (figure 5, left).

    Args:
        in_channels: of the input.
        width: channels of both convolutions, and of the output.
        stride: of the first convolution.
    """

    expansion = 1
    """Channels of the output, relative to `width`."""

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = convolution(in_channels, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(in_channels, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, in_channels, height, width] to [batch, width · expansion, height / stride, width / stride]."""
        residual = F.relu(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(residual))
        return F.relu(residual + self.downsample(x))


class Bottleneck(nn.Module):
    """Computes relu(x + F(x)), where F is a 1×1, a 3×3 and a 1×1 convolution (figure 5, right).

    The 3×3 convolution has the stride, not the first 1×1 as in the paper: this is "ResNet v1.5", with which
    torchvision's weights were trained.

    Args:
        in_channels: of the input.
        width: channels of the first two convolutions; the output has four times as many.
        stride: of the 3×3 convolution.
    """

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = convolution(in_channels, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = convolution(width, width * self.expansion, 1)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.downsample = shortcut(in_channels, width * self.expansion, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, in_channels, height, width] to [batch, width · expansion, height / stride, width / stride]."""
        residual = F.relu(self.bn1(self.conv1(x)))
        residual = F.relu(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        return F.relu(residual + self.downsample(x))


def shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Builds the identity, or a 1×1 projection where the shape changes (option B of the paper)."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(convolution(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


def make_stage(
    block: type[BasicBlock] | type[Bottleneck], in_channels: int, width: int, depth: int, stride: int
) -> nn.Sequential:
    """Stacks `depth` blocks of one width, the first of them with the stride."""
    first = block(in_channels, width, stride)
    return nn.Sequential(first, *(block(width * block.expansion, width) for _ in range(depth - 1)))


class ResNet(nn.Module):
    """Stacks a stem, four stages of residual blocks, global average pooling and a linear layer.

    Args:
        block: `BasicBlock` or `Bottleneck`.
        depths: blocks in each stage.
        num_classes: outputs of the linear layer.
        small_images: starts with a 3×3 convolution without pooling, for images of 32×32 (section 4.2), instead of 7×7
            of stride 2 and max pooling, for 224×224.
        widths: of the blocks of each stage.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        num_classes: int,
        small_images: bool = False,
        widths: Sequence[int] = (64, 128, 256, 512),
    ) -> None:
        super().__init__()
        stem_channels = widths[0]
        self.conv1 = convolution(3, stem_channels, 3 if small_images else 7, stride=1 if small_images else 2)
        self.bn1 = nn.BatchNorm2d(stem_channels)
        self.maxpool = nn.Identity() if small_images else nn.MaxPool2d(3, stride=2, padding=1)
        out = [width * block.expansion for width in widths]
        self.layer1 = make_stage(block, stem_channels, widths[0], depths[0], stride=1)
        self.layer2 = make_stage(block, out[0], widths[1], depths[1], stride=2)
        self.layer3 = make_stage(block, out[1], widths[2], depths[2], stride=2)
        self.layer4 = make_stage(block, out[2], widths[3], depths[3], stride=2)
        self.fc = nn.Linear(out[3], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for module in self.modules():
            # A zero scale in the last norm makes each block start as the identity (Goyal et al. 2017, section 5.1).
            if isinstance(module, BasicBlock):
                nn.init.zeros_(module.bn2.weight)
            elif isinstance(module, Bottleneck):
                nn.init.zeros_(module.bn3.weight)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Computes the last stage's activations, [batch, channels, height / 32, width / 32] (8 with `small_images`)."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(images))))  # a quarter of the height, or all with small_images
        output: torch.Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return output

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Computes the logits [batch, num_classes] of what `features` returns."""
        logits: torch.Tensor = self.fc(features.mean(dim=(2, 3)))
        return logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Computes the logits [batch, num_classes] of images [batch, 3, height, width]."""
        return self.classify(self.features(images))


def resnet18(num_classes: int = 1000, small_images: bool = False) -> ResNet:
    """Builds ResNet-18 (table 1 of the paper)."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, small_images)


def resnet34(num_classes: int = 1000, small_images: bool = False) -> ResNet:
    """Builds ResNet-34 (table 1 of the paper)."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes, small_images)


def resnet50(num_classes: int = 1000, small_images: bool = False) -> ResNet:
    """Builds ResNet-50 (table 1 of the paper)."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, small_images)


def resnet101(num_classes: int = 1000, small_images: bool = False) -> ResNet:
    """Builds ResNet-101 (table 1 of the paper)."""
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes, small_images)


def resnet152(num_classes: int = 1000, small_images: bool = False) -> ResNet:
    """Builds ResNet-152 (table 1 of the paper)."""
    return ResNet(Bottleneck, (3, 8, 36, 3), num_classes, small_images)
