"""YOLOv8, from its published architecture, with the parameter names of ultralytics' state dicts.

Legend: a feature map is [batch, channels, height, width]; `anchors` counts the cells of all three maps, one prediction
each. A 640×640 image has 80·80 + 40·40 + 20·20 = 8,400.

Jocher et al. 2023, https://docs.ultralytics.com/models/yolov8; CSPNet (arXiv:1911.11929), PANet (arXiv:1803.01534),
spatial pyramid pooling (arXiv:1406.4729).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from dlcommon.vision.anchor_points import distances_to_boxes, make_anchor_points
from dlcommon.vision.distribution_focal_loss import expected_distance

STRIDES = (8, 16, 32)
"""Pixels of the image that a cell of each of the three feature maps is wide."""


@dataclass(frozen=True)
class Scale:
    """Multiples of the one architecture that make a smaller or a larger network."""

    depth: float
    """Multiplies the number of bottlenecks in each C2f block."""
    width: float
    """Multiplies the channels."""
    max_channels: int
    """Bounds the channels before they are multiplied."""

    def channels(self, channels: int) -> int:
        """Returns how many channels a layer has, a multiple of 8."""
        return math.ceil(min(channels, self.max_channels) * self.width / 8) * 8

    def repeats(self, repeats: int) -> int:
        """Returns how many bottlenecks a C2f block has, at least 1."""
        return max(round(repeats * self.depth), 1)


SCALES = {
    "n": Scale(0.33, 0.25, 1024),
    "s": Scale(0.33, 0.50, 1024),
    "m": Scale(0.67, 0.75, 768),
    "l": Scale(1.00, 1.00, 512),
    "x": Scale(1.00, 1.25, 512),
}


class Predictions(NamedTuple):
    """What the detector says about every anchor point, before duplicates are removed."""

    distributions: torch.Tensor
    """Logits of the distances to the four edges, [batch, anchors, 4, bins]; a bin is one stride wide."""
    boxes: torch.Tensor
    """Left, top, right, bottom in pixels, [batch, anchors, 4]: the means of the distributions."""
    logits: torch.Tensor
    """Logits of the classes, each on its own, [batch, anchors, classes]; there is no background class."""
    points: torch.Tensor
    """Anchor points in pixels, [anchors, 2]."""
    strides: torch.Tensor
    """Stride of each anchor's feature map in pixels, [anchors, 1]."""


def decode(
    distributions: torch.Tensor,
    logits: torch.Tensor,
    sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    bins: torch.Tensor,
) -> Predictions:
    """Turns a head's raw outputs into predictions; those in half precision are decoded in float32.

    Args:
        distributions: [batch, 4 * bins, anchors].
        logits: [batch, classes, anchors].
        sizes: height and width of each feature map.
        strides: the stride of each.
        bins: the distance that each bin stands for, in strides, [bins].
    """
    if distributions.element_size() < 4:  # bfloat16 would round coordinates above 256 to multiples of 2
        distributions, logits, bins = distributions.float(), logits.float(), bins.float()
    points, widths = make_anchor_points(sizes, strides, distributions)
    distributions = distributions.unflatten(1, (4, -1)).permute(0, 3, 1, 2)  # [batch, anchors, 4, bins]
    distances = expected_distance(distributions, bins) * widths  # [batch, anchors, 4] in pixels
    return Predictions(distributions, distances_to_boxes(points, distances), logits.mT, points, widths)


class Conv(nn.Module):
    """Convolution, batch normalization, SiLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.03)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.silu(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    """Two 3×3 convolutions, added to their input where `residual`."""

    def __init__(self, channels: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.cv1, self.cv2 = Conv(channels, channels, 3), Conv(channels, channels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        change: torch.Tensor = self.cv2(self.cv1(x))
        return x + change if self.residual else change


class C2f(nn.Module):
    """Cross-stage partial block: half of the channels goes through bottlenecks, and every step is kept to the end."""

    def __init__(self, in_channels: int, out_channels: int, repeats: int, residual: bool = False) -> None:
        super().__init__()
        hidden = out_channels // 2
        self.cv1 = Conv(in_channels, 2 * hidden)
        self.cv2 = Conv((2 + repeats) * hidden, out_channels)
        self.m = nn.ModuleList(Bottleneck(hidden, residual) for _ in range(repeats))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps = list(self.cv1(x).chunk(2, dim=1))
        for bottleneck in self.m:
            steps.append(bottleneck(steps[-1]))
        mixed: torch.Tensor = self.cv2(torch.cat(steps, dim=1))  # (2 + repeats) * hidden channels in
        return mixed


class SPPF(nn.Module):
    """Spatial pyramid pooling: maxima over 5×5, 9×9 and 13×13 cells, by one 5×5 pooling three times in a row."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cv1 = Conv(channels, channels // 2)
        self.cv2 = Conv(4 * (channels // 2), channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scales = [self.cv1(x)]
        for _ in range(3):
            scales.append(F.max_pool2d(scales[-1], 5, stride=1, padding=2))
        mixed: torch.Tensor = self.cv2(torch.cat(scales, dim=1))
        return mixed


class Bins(nn.Module):
    """Holds the distances 0, 1, … that bins stand for, as the frozen 1×1 convolution of ultralytics' state dicts."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(bins, 1, 1, bias=False).requires_grad_(False)
        self.conv.weight.data = torch.arange(bins, dtype=self.conv.weight.dtype).view(1, bins, 1, 1)

    def forward(self) -> torch.Tensor:
        """Returns the distances, [bins]."""
        return self.conv.weight.flatten()


class Detect(nn.Module):
    """Anchor-free head, decoupled: one branch for the box of each cell, another for its class."""

    def __init__(self, in_channels: Sequence[int], num_classes: int, bins: int = 16) -> None:
        super().__init__()
        for_boxes = max(16, in_channels[0] // 4, 4 * bins)
        for_classes = max(in_channels[0], min(num_classes, 100))
        # About 5 objects among the cells of a 640×640 image: the first losses are not those of a wrong prior.
        priors = [math.log(5 / num_classes / (640 / stride) ** 2) for stride in STRIDES]
        self.cv2 = nn.ModuleList(self._branch(channels, for_boxes, 4 * bins, 2.0) for channels in in_channels)
        self.cv3 = nn.ModuleList(
            self._branch(channels, for_classes, num_classes, prior)
            for channels, prior in zip(in_channels, priors, strict=True)
        )
        self.dfl = Bins(bins)

    @staticmethod
    def _branch(in_channels: int, hidden: int, out_channels: int, bias: float) -> nn.Sequential:
        last = nn.Conv2d(hidden, out_channels, 1)
        nn.init.constant_(last.get_parameter("bias"), bias)
        return nn.Sequential(Conv(in_channels, hidden, 3), Conv(hidden, hidden, 3), last)

    def forward(self, maps: Sequence[torch.Tensor]) -> Predictions:
        boxes = [branch(x).flatten(2) for branch, x in zip(self.cv2, maps, strict=True)]  # [batch, 4 * bins, cells]
        classes = [branch(x).flatten(2) for branch, x in zip(self.cv3, maps, strict=True)]  # [batch, classes, cells]
        sizes = [(x.size(2), x.size(3)) for x in maps]
        return decode(torch.cat(boxes, dim=2), torch.cat(classes, dim=2), sizes, STRIDES, self.dfl())


class YoloV8(nn.Module):
    """YOLOv8: backbone, a neck that goes up and down again, and a head on three feature maps.

    Layers carry the numbers of the published configuration, of which the ones without parameters (nearest-neighbor
    upsampling, concatenation) are left out here: `model.0.conv.weight` is the same tensor as in ultralytics.
    """

    def __init__(self, num_classes: int = 80, scale: Scale = SCALES["n"], bins: int = 16) -> None:
        """
        Args:
            num_classes: number of classes.
            scale: depth and width.
            bins: number of bins of each distance; the largest distance is bins - 1 strides.
        """
        super().__init__()
        c64, c128, c256, c512, c1024 = (scale.channels(channels) for channels in (64, 128, 256, 512, 1024))
        three, six = scale.repeats(3), scale.repeats(6)
        layers: dict[int, nn.Module] = {
            0: Conv(3, c64, 3, stride=2),  # stride 2
            1: Conv(c64, c128, 3, stride=2),  # 4
            2: C2f(c128, c128, three, residual=True),
            3: Conv(c128, c256, 3, stride=2),  # 8
            4: C2f(c256, c256, six, residual=True),
            5: Conv(c256, c512, 3, stride=2),  # 16
            6: C2f(c512, c512, six, residual=True),
            7: Conv(c512, c1024, 3, stride=2),  # 32
            8: C2f(c1024, c1024, three, residual=True),
            9: SPPF(c1024),
            12: C2f(c1024 + c512, c512, three),
            15: C2f(c512 + c256, c256, three),
            16: Conv(c256, c256, 3, stride=2),
            18: C2f(c256 + c512, c512, three),
            19: Conv(c512, c512, 3, stride=2),
            21: C2f(c512 + c1024, c1024, three),
            22: Detect((c256, c512, c1024), num_classes, bins),
        }
        self.model = nn.ModuleDict({str(number): layer for number, layer in layers.items()})

    def forward(self, images: torch.Tensor) -> Predictions:
        """Predicts boxes and classes.

        Args:
            images: [batch, 3, height, width] in 0 … 1, both sides multiples of 32.

        Raises:
            ValueError: a side is not a multiple of 32.
        """
        if images.size(2) % STRIDES[-1] or images.size(3) % STRIDES[-1]:
            raise ValueError(
                f"an image of {images.size(3)}×{images.size(2)} pixels cannot be detected on;"
                f" pad both sides to multiples of {STRIDES[-1]}"
            )
        return self.model["22"](self.feature_maps(images))  # type: ignore[no-any-return]

    def feature_maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Returns the maps that the head reads, of strides 8, 16 and 32."""
        kept = {}
        x = images
        for number in range(10):
            kept[number] = x = self.model[str(number)](x)
        p3, p4, p5 = kept[4], kept[6], kept[9]
        # Up: what coarse cells know about objects reaches the fine ones.
        up4 = self.model["12"](torch.cat((F.interpolate(p5, scale_factor=2.0), p4), dim=1))
        up3 = self.model["15"](torch.cat((F.interpolate(up4, scale_factor=2.0), p3), dim=1))
        # Down: where edges are reaches the coarse ones.
        down4 = self.model["18"](torch.cat((self.model["16"](up3), up4), dim=1))
        down5 = self.model["21"](torch.cat((self.model["19"](down4), p5), dim=1))
        return [up3, down4, down5]
