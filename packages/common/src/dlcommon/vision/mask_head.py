"""Mask R-CNN's mask head: a small fully convolutional network on each box's features (He et al. 2017).

https://arxiv.org/abs/1703.06870. Parameters, targets, loss and pasting are torchvision's.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from dlcommon.vision.roi import roi_align


class MaskHead(nn.Module):
    """Predicts a mask of each class for each box, at twice the resolution of the box's features (figure 4, right).

    Args:
        in_channels: of the features.
        num_classes: number of classes, the background included if it has a label.
        width: channels of the convolutions.
        depth: number of 3×3 convolutions before the transposed one.
    """

    def __init__(self, in_channels: int, num_classes: int, width: int = 256, depth: int = 4) -> None:
        super().__init__()
        channels = (in_channels, *[width] * depth)
        self.convs = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(before, width, 3, padding=1), nn.ReLU(inplace=True))
                for before in channels[:depth]
            )
        )
        self.predictor = nn.Sequential(
            OrderedDict(
                conv5_mask=nn.ConvTranspose2d(channels[-1], width, 2, stride=2),
                relu=nn.ReLU(inplace=True),
                mask_fcn_logits=nn.Conv2d(width, num_classes, 1),
            )
        )
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [boxes, in_channels, size, size] to logits [boxes, num_classes, 2 · size, 2 · size]."""
        logits: torch.Tensor = self.predictor(self.convs(x))
        return logits


def mask_targets(masks: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor], size: int) -> torch.Tensor:
    """Cuts from each mask what lies in its box, and samples it on the head's grid: [boxes of all pictures, size, size].

    Args:
        masks: for each picture bool [boxes, height, width]: the mask of the object that each box is for.
        boxes: for each picture [boxes, 4]: left, top, right, bottom in pixels.
        size: of the head's masks.

    Returns:
        Values from 0 to 1; between them where the outline passes through a bin.
    """
    cut = [
        roi_align(mask[:, None].to(box.dtype), list(box[:, None]), size, 1.0, sampling_ratio=-1, aligned=False)[:, 0]
        for mask, box in zip(masks, boxes, strict=True)
        if len(box)
    ]
    return torch.cat(cut) if cut else torch.zeros(0, size, size)


def mask_loss(logits: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Computes the binary cross-entropy of the mask of each box's own class; the other classes' masks are left alone.

    Classes do not compete for pixels: which class it is, the box head decides (section 3).

    Args:
        logits: [boxes, num_classes, size, size].
        labels: int64 [boxes].
        targets: [boxes, size, size], 0 to 1.

    Returns:
        A scalar; 0, with a gradient of 0, if there are no boxes.
    """
    if len(labels) == 0:
        return logits.sum() * 0
    own = logits[torch.arange(len(labels)), labels]  # [boxes, size, size]
    return F.binary_cross_entropy_with_logits(own, targets)


def paste_masks(probabilities: torch.Tensor, boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Enlarges each mask to its box and lays it into a picture of zeros: [boxes, height, width].

    A border of zeros is put around each mask first, and the box grows with it, so that the outermost values are
    interpolated towards 0 as well. Corners are cut off to whole pixels.

    Args:
        probabilities: [boxes, size, size].
        boxes: [boxes, 4]: left, top, right, bottom in pixels; may reach beyond the picture.
        height: of the picture.
        width: of the picture.
    """
    size = probabilities.size(-1)
    padded, growth = F.pad(probabilities, (1, 1, 1, 1)), (size + 2) / size
    centers, halves = (boxes[:, 2:] + boxes[:, :2]) * 0.5, (boxes[:, 2:] - boxes[:, :2]) * 0.5 * growth
    corners = torch.cat((centers - halves, centers + halves), dim=1).long()  # cut off towards 0
    pasted = probabilities.new_zeros(len(boxes), height, width)
    for mask, canvas, (left, top, right, bottom) in zip(padded, pasted, corners.tolist(), strict=True):
        shape = (max(bottom - top + 1, 1), max(right - left + 1, 1))
        whole = F.interpolate(mask[None, None], size=shape, mode="bilinear", align_corners=False)[0, 0]
        first_row, last_row = max(top, 0), min(bottom + 1, height)
        first_column, last_column = max(left, 0), min(right + 1, width)
        if first_row < last_row and first_column < last_column:
            seen = whole[first_row - top : last_row - top, first_column - left : last_column - left]
            canvas[first_row:last_row, first_column:last_column] = seen
    return pasted
