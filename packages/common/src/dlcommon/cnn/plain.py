"""A plain convolutional network: stages of 3×3 (or larger) convolutions with pooling between them.

The pattern of VGG (Simonyan & Zisserman 2015, https://arxiv.org/abs/1409.1556) with batch norm (Ioffe & Szegedy
2015, https://arxiv.org/abs/1502.03167). Shapes: [batch, channels, height, width].
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from dlcommon.cnn.residual import convolution


class ConvStage(nn.Module):
    """Stacks `depth` convolutions of `out_channels`, each with batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, depth: int, kernel_size: int) -> None:
        super().__init__()
        channels = [in_channels, *[out_channels] * depth]
        self.convolutions = nn.ModuleList(convolution(channels[i], out_channels, kernel_size) for i in range(depth))
        self.norms = nn.ModuleList(nn.BatchNorm2d(out_channels) for _ in range(depth))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, in_channels, height, width] to [batch, out_channels, height, width]."""
        for conv, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.relu(norm(conv(x)))
        return x


class PlainCNN(nn.Module):
    """Stacks stages with 2×2 max pooling between them, global max pooling, dropout and a linear layer.

    Args:
        in_channels: of the images.
        widths: channels of each stage.
        depths: convolutions in each stage.
        num_classes: outputs of the linear layer.
        kernel_size: of every convolution; odd.
        dropout: probability of zeroing a pooled feature while training.

    Raises:
        ValueError: widths and depths differ in number.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        depths: Sequence[int],
        num_classes: int,
        kernel_size: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(widths) != len(depths):
            raise ValueError(f"{len(widths)} widths for {len(depths)} depths")
        channels = [in_channels, *widths[:-1]]
        stages = zip(channels, widths, depths, strict=True)
        self.stages = nn.ModuleList(ConvStage(i, width, depth, kernel_size) for i, width, depth in stages)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(widths[-1], num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Computes the logits [batch, num_classes] of images [batch, in_channels, height, width]."""
        x = self.stages[0](images)  # [batch, widths[0], height, width]
        for stage in self.stages[1:]:
            x = stage(F.max_pool2d(x, 2))  # half the height and width, and the next width
        logits: torch.Tensor = self.fc(self.dropout(x.amax(dim=(2, 3))))
        return logits
