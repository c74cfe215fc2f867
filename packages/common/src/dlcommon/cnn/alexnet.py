"""AlexNet in its single-tower form (Krizhevsky 2014, https://arxiv.org/abs/1404.5997).

The original ran on two GPUs and had local response normalization (Krizhevsky et al. 2012).

Parameter names and shapes are torchvision's, whose weights load unchanged. Shapes: [batch, 3, height, width].
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn


class AlexNet(nn.Module):
    """Stacks five convolutions, three of them with overlapping max pooling, and three linear layers with dropout.

    Args:
        num_classes: outputs of the last layer.
        widths: channels of the five convolutions.
        hidden_features: outputs of the first two linear layers.
        dropout: probability of zeroing an input of each of those two while training.
        activation: builds each activation; ReLU in the paper.
        small_images: starts with a 3×3 convolution of stride 1, for images of 32×32, instead of 11×11 of stride 4,
            for 224×224.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        widths: Sequence[int] = (64, 192, 384, 256, 256),
        hidden_features: int = 4096,
        dropout: float = 0.5,
        activation: Callable[[], nn.Module] = nn.ReLU,
        small_images: bool = False,
    ) -> None:
        super().__init__()
        a, b, c, d, e = widths
        # The sizes of the maps, of images of 224×224: 55, pooled 27, 27, pooled 13, 13, 13, 13, pooled 6.
        first = nn.Conv2d(3, a, 3, padding=1) if small_images else nn.Conv2d(3, a, 11, stride=4, padding=2)
        pool_size = 3 if small_images else 6
        self.features = nn.Sequential(
            first, activation(), nn.MaxPool2d(3, stride=2),
            nn.Conv2d(a, b, 5, padding=2), activation(), nn.MaxPool2d(3, stride=2),
            nn.Conv2d(b, c, 3, padding=1), activation(),
            nn.Conv2d(c, d, 3, padding=1), activation(),
            nn.Conv2d(d, e, 3, padding=1), activation(), nn.MaxPool2d(3, stride=2),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d(pool_size)  # makes the classifier independent of the size of the images
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(e * pool_size**2, hidden_features), activation(),
            nn.Dropout(dropout), nn.Linear(hidden_features, hidden_features), activation(),
            nn.Linear(hidden_features, num_classes),
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Computes the logits [batch, num_classes] of images [batch, 3, height, width]."""
        logits: torch.Tensor = self.classifier(self.avgpool(self.features(images)).flatten(1))
        return logits
