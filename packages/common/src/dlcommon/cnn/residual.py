"""Residual blocks and ResNet (He et al. 2016, https://arxiv.org/abs/1512.03385).

Parameter names and shapes are torchvision's, so that its weights load unchanged. Shapes: [batch, channels,
height, width].
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size (divided by the stride), without bias: a batch norm follows."""
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)


class BasicBlock(nn.Module):
    """relu(x + F(x)) with F two 3×3 convolutions (figure 5, left)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(inputs, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual = F.relu(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(residual))
        return F.relu(residual + self.downsample(x))


class Bottleneck(nn.Module):
    """relu(x + F(x)) with F 1×1, 3×3 and 1×1 convolutions (figure 5, right).

    The stride lies in the 3×3 convolution rather than in the first 1×1 of the paper ("ResNet v1.5"), which is
    what torchvision's weights were trained with.
    """

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = convolution(width, width * self.expansion, 1)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.downsample = shortcut(inputs, width * self.expansion, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual = F.relu(self.bn1(self.conv1(x)))
        residual = F.relu(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        return F.relu(residual + self.downsample(x))


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    """The identity, or a 1×1 projection where the shape changes (option B of the paper)."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


def stage(
    block: type[BasicBlock] | type[Bottleneck], inputs: int, width: int, depth: int, stride: int
) -> nn.Sequential:
    """Blocks of one width, the first with the stride."""
    first = block(inputs, width, stride)
    return nn.Sequential(first, *(block(width * block.expansion, width) for _ in range(depth - 1)))


class ResNet(nn.Module):
    """Stem, four stages of residual blocks, global average pooling, linear layer.

    Args:
        block: `BasicBlock` or `Bottleneck`.
        depths: blocks in each stage.
        classes: outputs of the linear layer.
        small_images: a 3×3 stem without pooling, for images of 32×32 (section 4.2 of the paper); else the 7×7
            stem with stride 2 and max pooling, for 224×224.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        classes: int,
        small_images: bool = False,
        widths: Sequence[int] = (64, 128, 256, 512),
    ) -> None:
        super().__init__()
        stem = widths[0]
        self.conv1 = convolution(3, stem, 3) if small_images else convolution(3, stem, 7, stride=2)
        self.bn1 = nn.BatchNorm2d(stem)
        self.maxpool = nn.Identity() if small_images else nn.MaxPool2d(3, stride=2, padding=1)
        out = [width * block.expansion for width in widths]
        self.layer1 = stage(block, stem, widths[0], depths[0], stride=1)
        self.layer2 = stage(block, out[0], widths[1], depths[1], stride=2)
        self.layer3 = stage(block, out[1], widths[2], depths[2], stride=2)
        self.layer4 = stage(block, out[2], widths[3], depths[3], stride=2)
        self.fc = nn.Linear(out[3], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for module in self.modules():
            # Each block starts as the identity (Goyal et al. 2017, section 5.1).
            if isinstance(module, BasicBlock):
                nn.init.zeros_(module.bn2.weight)
            elif isinstance(module, Bottleneck):
                nn.init.zeros_(module.bn3.weight)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """The last stage's activations [batch, channels, height, width]."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(images))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Logits [batch, classes]."""
        return self.fc(features.mean(dim=(2, 3)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classify(self.features(images))


def resnet18(classes: int = 1000, small_images: bool = False) -> ResNet:
    return ResNet(BasicBlock, (2, 2, 2, 2), classes, small_images)


def resnet34(classes: int = 1000, small_images: bool = False) -> ResNet:
    return ResNet(BasicBlock, (3, 4, 6, 3), classes, small_images)


def resnet50(classes: int = 1000, small_images: bool = False) -> ResNet:
    return ResNet(Bottleneck, (3, 4, 6, 3), classes, small_images)


def resnet101(classes: int = 1000, small_images: bool = False) -> ResNet:
    return ResNet(Bottleneck, (3, 4, 23, 3), classes, small_images)


def resnet152(classes: int = 1000, small_images: bool = False) -> ResNet:
    return ResNet(Bottleneck, (3, 8, 36, 3), classes, small_images)
