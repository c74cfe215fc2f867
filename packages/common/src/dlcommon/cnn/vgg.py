"""VGG: 3×3 convolutions only, and depth (Simonyan & Zisserman 2015, https://arxiv.org/abs/1409.1556).

Parameter names and shapes are torchvision's, whose weights load unchanged. `dlcommon.cnn.plain` has the same pattern
with a light head. Shapes: [batch, 3, height, width].
"""

from collections.abc import Sequence

import torch
from torch import nn

DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions in each of five stages, by number of weight layers: configurations A, B, D and E of table 1."""

WIDTHS = (64, 128, 256, 512, 512)
"""Channels of the five stages."""


class VGG(nn.Module):
    """Stacks stages of 3×3 convolutions, each ending in 2×2 max pooling, and three linear layers with dropout.

    Args:
        depths: convolutions in each stage.
        num_classes: outputs of the last layer.
        widths: channels of each stage.
        hidden_features: outputs of the first two linear layers.
        pool_size: height and width to which the last feature maps are pooled before the linear layers.
        batch_norm: inserts batch norm before each ReLU; the paper predates it.
        dropout: probability of zeroing an output of the first two linear layers while training.
    """

    def __init__(
        self,
        depths: Sequence[int],
        num_classes: int = 1000,
        widths: Sequence[int] = WIDTHS,
        hidden_features: int = 4096,
        pool_size: int = 7,
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
        self.avgpool = nn.AdaptiveAvgPool2d(pool_size)
        self.classifier = nn.Sequential(
            nn.Linear(channels * pool_size**2, hidden_features), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden_features, hidden_features), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden_features, num_classes),
        )  # fmt: skip
        for module in self.modules():
            # He et al. 2015, at any depth; the paper had to start its deep networks from a shallow one's weights.
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Computes the logits [batch, num_classes] of images [batch, 3, height, width]."""
        logits: torch.Tensor = self.classifier(self.avgpool(self.features(images)).flatten(1))
        return logits


def vgg(num_layers: int, num_classes: int = 1000, batch_norm: bool = False) -> VGG:
    """Builds VGG-11, 13, 16 or 19, with `num_layers` weight layers."""
    return VGG(DEPTHS[num_layers], num_classes, batch_norm=batch_norm)
