"""Fully convolutional networks: a class for every pixel (Long et al. 2015, https://arxiv.org/abs/1411.4038).

Shapes: [batch, channels, height, width].
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F


def bilinear_kernel(stride: int) -> torch.Tensor:
    """Computes the kernel with which a transposed convolution interpolates bilinearly: [size, size].

    The size is 2 · stride − stride mod 2. Every input pixel spreads a tent as wide as the distance to its neighbors;
    the tents overlap and sum to 1 everywhere.
    """
    size = 2 * stride - stride % 2
    distance = (torch.arange(size) - (size - 1) / 2).abs() / stride  # from the kernel's center, in input pixels
    tent = 1 - distance
    return tent[:, None] * tent


def bilinear_upsampling(channels: int, stride: int) -> nn.ConvTranspose2d:
    """Builds a transposed convolution that enlarges each side `stride` times, and begins as bilinear interpolation.

    Each channel is enlarged from itself alone at first; training may change every weight. Within a pixel of the border
    it differs from `F.interpolate`, since what lies outside counts as 0 here.
    """
    size = 2 * stride - stride % 2
    layer = nn.ConvTranspose2d(channels, channels, size, stride, padding=(size - stride) // 2, bias=False)
    with torch.no_grad():
        layer.weight.zero_()
        each = torch.arange(channels)
        layer.weight[each, each] = bilinear_kernel(stride)
    return layer


def conv_norm_relu(in_channels: int, out_channels: int, dilation: int = 1) -> nn.Sequential:
    """Builds a 3×3 convolution that keeps the size, with batch normalization and ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class FCN(nn.Module):
    """Scores classes on a coarse map, enlarges the scores, and adds those of finer maps on the way (figure 3).

    Args:
        in_channels: of the pictures.
        num_classes: number of classes.
        widths: channels of each stage; a stage halves the sides at its end.
        skips: how many of the finer stages also score; 0 is the paper's FCN-32s, one more halves the final stride.

    Raises:
        ValueError: there are not as many finer stages.
    """

    def __init__(
        self, in_channels: int, num_classes: int, widths: Sequence[int] = (16, 32, 48), skips: int | None = None
    ) -> None:
        super().__init__()
        skips = len(widths) - 1 if skips is None else skips
        if not 0 <= skips < len(widths):
            raise ValueError(f"{len(widths)} stages have {len(widths) - 1} finer ones to skip from, not {skips}")
        self.stages = nn.ModuleList(
            nn.Sequential(conv_norm_relu(before, width), conv_norm_relu(width, width), nn.MaxPool2d(2))
            for before, width in zip((in_channels, *widths), widths, strict=False)
        )
        scoring = list(reversed(widths))[: skips + 1]  # from the coarsest stage to finer ones
        self.scores = nn.ModuleList(nn.Conv2d(width, num_classes, 1) for width in scoring)
        self.doublings = nn.ModuleList(bilinear_upsampling(num_classes, 2) for _ in range(skips))
        self.enlarge = bilinear_upsampling(num_classes, 2 ** (len(widths) - skips))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, in_channels, height, width] to logits [batch, num_classes, height, width].

        Raises:
            ValueError: the sides cannot be halved as often as there are stages.
        """
        shrink = 2 ** len(self.stages)
        if x.size(2) % shrink or x.size(3) % shrink:
            raise ValueError(f"{x.size(2)} × {x.size(3)} pixels: sides must be multiples of {shrink}")
        maps = []
        for stage in self.stages:
            maps.append(x := stage(x))
        scores = self.scores[0](maps.pop())  # [batch, num_classes, height / shrink, width / shrink]
        for doubling, score in zip(self.doublings, list(self.scores)[1:], strict=True):
            scores = doubling(scores) + score(maps.pop())
        logits: torch.Tensor = self.enlarge(scores)
        return logits


class DilatedNetwork(nn.Sequential):
    """Keeps a map's resolution and sees further by dilation instead: 3×3 convolutions, then a 1×1 that scores.

    Args:
        in_channels: of the pictures.
        num_classes: number of classes.
        width: channels of each convolution.
        dilations: of each convolution. With 1, 2, 4, 8 the receptive field doubles from layer to layer
            (Yu & Koltun 2016, https://arxiv.org/abs/1511.07122).
    """

    def __init__(
        self, in_channels: int, num_classes: int, width: int = 16, dilations: Sequence[int] = (1, 1, 2, 4, 8)
    ) -> None:
        channels = (in_channels, *[width] * len(dilations))
        super().__init__(
            *(conv_norm_relu(before, width, dilation) for before, dilation in zip(channels, dilations, strict=False)),
            nn.Conv2d(width, num_classes, 1),
        )


def coarse_to_fine_agreement(target: torch.Tensor, stride: int, num_classes: int) -> torch.Tensor:
    """Returns what remains of a label map after an ideal classifier at that stride: int64 [batch, height, width].

    Shares of the classes in each block of stride × stride pixels are enlarged bilinearly, and the largest one wins: a
    bound for networks that score at the coarse resolution only (cf. the paper's appendix A).
    """
    shares = F.avg_pool2d(F.one_hot(target, num_classes).permute(0, 3, 1, 2).float(), stride)
    return F.interpolate(shares, scale_factor=stride, mode="bilinear", align_corners=False).argmax(dim=1)
