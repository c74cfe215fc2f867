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
    """Convolutions of one width, each with batch norm and ReLU."""

    def __init__(self, inputs: int, width: int, depth: int, kernel: int) -> None:
        super().__init__()
        channels = [inputs, *[width] * depth]
        self.convolutions = nn.ModuleList(convolution(channels[i], width, kernel) for i in range(depth))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(depth))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.relu(norm(conv(x)))
        return x


class PlainCNN(nn.Module):
    """Stages with 2×2 max pooling between them, global max pooling, dropout, linear layer.

    Args:
        channels: of the input.
        widths: channels of each stage.
        depths: convolutions in each stage.
        classes: outputs of the linear layer.
        kernel: side of the convolutions' kernels.
        dropout: share of the pooled features zeroed while training.
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int],
        depths: Sequence[int],
        classes: int,
        kernel: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(widths) != len(depths):
            raise ValueError(f"{len(widths)} widths for {len(depths)} depths")
        inputs = [channels, *widths[:-1]]
        stages = zip(inputs, widths, depths, strict=True)
        self.stages = nn.ModuleList(ConvStage(i, width, depth, kernel) for i, width, depth in stages)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [batch, classes]."""
        x = self.stages[0](images)
        for stage in self.stages[1:]:
            x = stage(F.max_pool2d(x, 2))
        return self.fc(self.dropout(x.amax(dim=(2, 3))))
