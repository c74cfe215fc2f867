"""Region proposal network: finds where something is, without saying what (Ren et al. 2015, section 3.1).

Modules and parameters have torchvision's names, so that weights can be exchanged.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from dlcommon.vision.anchors import decode_boxes, encode_boxes, grid_anchors, match_anchors, sample_matches
from dlcommon.vision.boxes import box_iou, clip_boxes
from dlcommon.vision.suppression import nms

SMOOTH_L1_BETA = 1 / 9
"""Error of a code below which the loss is quadratic."""
MIN_SIDE = 1e-3
"""Proposals that are narrower or lower than this, in pixels, are dropped."""


class RPNHead(nn.Module):
    """Predicts an objectness logit and a box code for each anchor of each cell."""

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()))
        self.cls_logits = nn.Conv2d(channels, anchors, 1)
        self.bbox_pred = nn.Conv2d(channels, 4 * anchors, 1)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.01) if parameter.dim() > 1 else nn.init.zeros_(parameter)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps `[images, channels, height, width]` to logits and codes in the order of `grid_anchors`.

        Returns:
            `[images, height · width · anchors]` and `[images, height · width · anchors, 4]`.
        """
        hidden = self.conv(features)
        logits = self.cls_logits(hidden).permute(0, 2, 3, 1)  # [images, height, width, anchors]
        codes = self.bbox_pred(hidden).permute(0, 2, 3, 1).unflatten(3, (-1, 4))  # [..., anchors, 4]
        return logits.flatten(1), codes.flatten(1, 3)


class RegionProposalNetwork(nn.Module):
    """Proposes boxes that may hold an object, and in training computes its own losses."""

    def __init__(
        self,
        channels: int,
        cells: torch.Tensor,
        stride: int,
        *,
        before_nms: int = 1000,
        after_nms: int = 1000,
        nms_threshold: float = 0.7,
        high: float = 0.7,
        low: float = 0.3,
        sample: int = 256,
        positive_fraction: float = 0.5,
    ) -> None:
        """Makes the network.

        Args:
            channels: of the features.
            cells: anchors of one cell, `[anchors, 4]`, from `cell_anchors`.
            stride: pixels of the image for each cell.
            before_nms: how many of the best anchors enter the suppression.
            after_nms: how many proposals there are at most.
            nms_threshold: greatest IoU of two proposals.
            high: least IoU of an anchor that stands for an object.
            low: below it an anchor is background.
            sample: anchors of an image that enter the loss.
            positive_fraction: largest share among them of those that stand for an object.
        """
        super().__init__()
        self.head = RPNHead(channels, len(cells))
        self.cells, self.stride = cells, stride
        self.before_nms, self.after_nms, self.nms_threshold = before_nms, after_nms, nms_threshold
        self.high, self.low, self.sample, self.positive_fraction = high, low, sample, positive_fraction

    def forward(
        self, features: torch.Tensor, image_size: tuple[int, int], targets: Sequence[torch.Tensor] | None = None
    ) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
        """Proposes boxes for each image.

        Args:
            features: `[images, channels, height, width]`.
            image_size: height and width of the images in pixels.
            targets: the objects' boxes of each image, `[objects, 4]`, in training.

        Returns:
            Proposals of each image, `[proposals, 4]`, the best first; and the losses, none without targets. Proposals
            are constants: the gradient of what is done with them does not reach this network.
        """
        logits, codes = self.head(features)
        anchors = grid_anchors(self.cells.to(features), *features.shape[2:], self.stride)  # [anchors, 4]
        proposals = [
            self.propose(scores, decode_boxes(shifts, anchors), image_size)
            for scores, shifts in zip(logits.detach(), codes.detach(), strict=True)
        ]
        return proposals, {} if targets is None else self.losses(logits, codes, anchors, targets)

    def propose(self, scores: torch.Tensor, boxes: torch.Tensor, image_size: tuple[int, int]) -> torch.Tensor:
        """Chooses the proposals of one image from its anchors' logits `[anchors]` and boxes `[anchors, 4]`."""
        scores, best = scores.topk(min(self.before_nms, len(scores)))
        boxes = clip_boxes(boxes[best], *image_size)
        large = ((boxes[:, 2:] - boxes[:, :2]) >= MIN_SIDE).all(1)
        boxes, scores = boxes[large], scores[large]
        return boxes[nms(boxes, scores, self.nms_threshold)[: self.after_nms]]

    def losses(
        self, logits: torch.Tensor, codes: torch.Tensor, anchors: torch.Tensor, targets: Sequence[torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Computes the loss of objectness and that of the codes, means over the sampled anchors of all images."""
        sampled_logits, labels, box_losses = [], [], []
        for image_logits, image_codes, boxes in zip(logits, codes, targets, strict=True):
            matches = match_anchors(box_iou(boxes, anchors), self.high, self.low, force=True)
            positive, negative = sample_matches(matches, self.sample, self.positive_fraction)
            sampled_logits.append(image_logits[torch.cat((positive, negative))])
            labels.append(torch.cat((torch.ones_like(positive), torch.zeros_like(negative))))
            wanted = encode_boxes(boxes[matches[positive]], anchors[positive])
            box_losses.append(F.smooth_l1_loss(image_codes[positive], wanted, beta=SMOOTH_L1_BETA, reduction="sum"))
        label = torch.cat(labels).to(logits.dtype)
        return {
            "loss_objectness": F.binary_cross_entropy_with_logits(torch.cat(sampled_logits), label),
            "loss_rpn_box_reg": torch.stack(box_losses).sum() / len(label),
        }
