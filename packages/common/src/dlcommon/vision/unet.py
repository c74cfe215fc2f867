"""U-Net: down to see widely, up to see sharply, with skips across (Ronneberger et al. 2015).

https://arxiv.org/abs/1505.04597. Shapes: [batch, channels, height, width]. The network that denoises in diffusion
(`dlcommon.generative.unet`) is of the same form; its blocks are residual and are told a timestep.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional as F

from dlcommon.vision.fully_convolutional import conv_norm_relu


def double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """Builds two 3×3 convolutions with batch normalization and ReLU."""
    return nn.Sequential(conv_norm_relu(in_channels, out_channels), conv_norm_relu(out_channels, out_channels))


class UNet(nn.Module):
    """Halves the resolution level by level, doubles it again, and joins what each level had on the way down.

    The paper's convolutions are unpadded, so that its maps shrink and are cropped before they are joined; here they are
    padded, as is usual now, and normalized.

    Args:
        in_channels: of the pictures.
        num_classes: channels of the logits.
        widths: channels of each level; the first is at full resolution.
        skips: whether the way up gets the features of the way down. Without them it is an encoder and a decoder.
    """

    def __init__(
        self, in_channels: int, num_classes: int, widths: Sequence[int] = (8, 16, 32), *, skips: bool = True
    ) -> None:
        super().__init__()
        self.skips = skips
        pairs = list(pairwise(widths))  # of neighboring levels, finer and coarser
        self.down = nn.ModuleList(
            double_conv(before, width) for before, width in zip((in_channels, *widths), widths, strict=False)
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in reversed(pairs))
        self.join = nn.ModuleList(double_conv(2 * fine if skips else fine, fine) for fine, _ in reversed(pairs))
        self.score = nn.Conv2d(widths[0], num_classes, 1)

    @property
    def stride(self) -> int:
        """Returns the pixels between two positions of the lowest level; sides of pictures must be multiples."""
        return int(2 ** len(self.up))

    @property
    def margin(self) -> int:
        """Returns how far from a pixel its logits can be influenced, in pixels: a bound, a multiple of `stride`."""
        levels = [2**level for level in range(len(self.up) + 1)]  # pixels between two positions of each level
        convolutions = sum(2 * step for step in levels) + sum(2 * step for step in levels[:-1])
        resampling = sum(2 * (step - 1) for step in levels[1:])  # where in its window a pixel lies, down and up
        margin: int = -(-(convolutions + resampling) // self.stride) * self.stride
        return margin

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, in_channels, height, width] to logits [batch, num_classes, height, width].

        Raises:
            ValueError: the sides are no multiples of `stride`.
        """
        if x.size(2) % self.stride or x.size(3) % self.stride:
            raise ValueError(f"{x.size(2)} × {x.size(3)} pixels: sides must be multiples of {self.stride}")
        kept: list[torch.Tensor] = []
        for level, down in enumerate(self.down):
            x = down(F.max_pool2d(x, 2) if level else x)
            kept.append(x)
        kept.pop()  # the lowest level goes on by itself
        for up, join in zip(self.up, self.join, strict=True):
            x = up(x)  # [batch, finer width, 2 · height, 2 · width]
            before = kept.pop()
            x = join(torch.cat((before, x), dim=1) if self.skips else x)
        logits: torch.Tensor = self.score(x)
        return logits


def predict_tiles(
    network: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor, tile: int, margin: int
) -> torch.Tensor:
    """Computes the logits of a picture of any size tile by tile, each with a margin around it (figure 2 of the paper).

    What a tile's border would have seen beyond it is in the margin; beyond the picture it is mirrored. With a margin as
    wide as the network can see, the tiles fit together without a seam.

    Args:
        network: maps [1, in_channels, side, side] to [1, num_classes, side, side], for side = tile + 2 · margin.
        image: [in_channels, height, width].
        tile: height and width of what is kept of each prediction. A multiple of the network's stride, like `margin`.
        margin: pixels around it; less than the picture's sides.

    Returns:
        [num_classes, height, width].
    """
    height, width = image.shape[1:]
    below, right = -height % tile, -width % tile  # to whole tiles
    padded = F.pad(image[None], (margin, margin, margin, margin), mode="reflect")
    padded = F.pad(padded, (0, right, 0, below), mode="replicate")
    rows = []
    for top in range(0, height, tile):
        row = []
        for left in range(0, width, tile):
            window = padded[:, :, top : top + tile + 2 * margin, left : left + tile + 2 * margin]
            row.append(network(window)[0, :, margin : margin + tile, margin : margin + tile])
        rows.append(torch.cat(row, dim=2))
    return torch.cat(rows, dim=1)[:, :height, :width]


def separate_instances(instances: torch.Tensor) -> torch.Tensor:
    """Marks the pixels of cells, except where a cell touches another: a foreground in which cells stay apart.

    Args:
        instances: int64 [batch, height, width]: 0 for background, else the number of the cell.

    Returns:
        int64 [batch, height, width], 0 or 1. Of two touching pixels, the one of the cell with the higher number goes.
    """
    padded = F.pad(instances, (1, 1, 1, 1))
    foreground = instances > 0
    height, width = instances.shape[1:]
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1)):
        neighbor = padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]
        foreground &= ~((neighbor > 0) & (neighbor < instances))
    return foreground.long()


def border_weights(instances: torch.Tensor, w0: float = 10.0, sigma: float = 5.0) -> torch.Tensor:
    """Computes w0 · exp(−(d₁ + d₂)² / 2σ²), the second term of the paper's weight map (equation 2).

    d₁ and d₂ are the distances to the nearest and the second nearest cell. The term is large in narrow gaps between two
    cells. Zero inside of cells, and where a picture has fewer than two.

    Args:
        instances: int64 [batch, height, width]: 0 for background, else the number of the cell.
        w0: weight where the distances are 0.
        sigma: in pixels.

    Returns:
        float32 [batch, height, width].
    """
    weights = torch.zeros(instances.shape)
    for picture, numbers in enumerate(instances.numpy()):
        cells = np.unique(numbers[numbers > 0])
        if len(cells) < 2:
            continue
        distances = np.stack([ndimage.distance_transform_edt(numbers != cell) for cell in cells])
        nearest = np.partition(distances, 1, axis=0)[:2].sum(axis=0)  # d₁ + d₂, [height, width]
        weights[picture] = torch.from_numpy(w0 * np.exp(-(nearest**2) / (2 * sigma**2)) * (numbers == 0))
    return weights
