"""VGG: nothing but 3×3 convolutions, and depth (Simonyan & Zisserman 2015, https://arxiv.org/abs/1409.1556).

Parameter names and shapes are torchvision's, so that its weights load unchanged. `dlcommon.cnn.plain` is the same
pattern with a light head. Shapes: [batch, 3, height, width].
"""

from collections.abc import Sequence

import torch
from torch import nn

DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions in each of five stages, by layers with weights: the paper's configurations A, B, D and E (table 1)."""

WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """Five stages of 3×3 convolutions, each ending in 2×2 max pooling; three linear layers with dropout.

    Args:
        depths: convolutions in each stage.
        classes: outputs of the last layer.
        widths: channels of each stage.
        hidden: outputs of the first two linear layers.
        side: rows and columns that these see of the last maps, which are averaged or repeated to that size.
        batch_norm: between each convolution and its ReLU, which the paper did not have yet.
        dropout: after the first two linear layers.
    """

    def __init__(
        self,
        depths: Sequence[int],
        classes: int = 1000,
        widths: Sequence[int] = WIDTHS,
        hidden: int = 4096,
        side: int = 7,
        batch_norm: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for depth, width in zip(depths, widths, strict=True):
            for _ in range(depth):
                norm = [nn.BatchNorm2d(width)] if batch_norm else []
                layers += [nn.Conv2d(channels, width, 3, padding=1), *norm, nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(side)
        self.classifier = nn.Sequential(
            nn.Linear(channels * side**2, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )  # fmt: skip
        for module in self.modules():
            # He et al. 2015, at any depth; the paper had to start its deep networks from a shallow one's weights.
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [batch, classes]."""
        return self.classifier(self.avgpool(self.features(images)).flatten(1))


def vgg(layers: int, classes: int = 1000, batch_norm: bool = False) -> VGG:
    """VGG-11, 13, 16 or 19."""
    return VGG(DEPTHS[layers], classes, batch_norm=batch_norm)
