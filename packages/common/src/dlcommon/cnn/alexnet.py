"""AlexNet in its one-column form (Krizhevsky 2014, https://arxiv.org/abs/1404.5997; the original, on two GPUs and with
local response normalization: Krizhevsky et al. 2012).

Parameter names and shapes are torchvision's, so that its weights load unchanged. Shapes: [batch, 3, height, width].
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn


class AlexNet(nn.Module):
    """Five convolutions, three of them with overlapping max pooling; three linear layers with dropout.

    Args:
        classes: outputs of the last layer.
        widths: channels of the five convolutions.
        hidden: outputs of the first two linear layers.
        dropout: before each of them.
        activation: the paper's ReLU, or what it is to be compared with.
        small_images: a 3×3 first convolution with stride 1, for images of 32×32; else 11×11 with stride 4, for
            224×224.
    """

    def __init__(
        self,
        classes: int = 1000,
        widths: Sequence[int] = (64, 192, 384, 256, 256),
        hidden: int = 4096,
        dropout: float = 0.5,
        activation: Callable[[], nn.Module] = nn.ReLU,
        small_images: bool = False,
    ) -> None:
        super().__init__()
        a, b, c, d, e = widths
        first = nn.Conv2d(3, a, 3, padding=1) if small_images else nn.Conv2d(3, a, 11, stride=4, padding=2)
        side = 3 if small_images else 6
        self.features = nn.Sequential(
            first, activation(), nn.MaxPool2d(3, stride=2),
            nn.Conv2d(a, b, 5, padding=2), activation(), nn.MaxPool2d(3, stride=2),
            nn.Conv2d(b, c, 3, padding=1), activation(),
            nn.Conv2d(c, d, 3, padding=1), activation(),
            nn.Conv2d(d, e, 3, padding=1), activation(), nn.MaxPool2d(3, stride=2),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d(side)  # lets images of other sizes in
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(e * side**2, hidden), activation(),
            nn.Dropout(dropout), nn.Linear(hidden, hidden), activation(),
            nn.Linear(hidden, classes),
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [batch, classes]."""
        return self.classifier(self.avgpool(self.features(images)).flatten(1))
