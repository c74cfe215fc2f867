"""Faster R-CNN: one network proposes boxes, the other names them and corrects their edges (Ren et al. 2015).

Modules and parameters have torchvision's names, so that weights can be exchanged.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from dlcommon.vision.anchors import BELOW, decode_boxes, encode_boxes, match_anchors, sample_matches
from dlcommon.vision.boxes import box_iou, clip_boxes
from dlcommon.vision.roi import roi_align
from dlcommon.vision.rpn import SMOOTH_L1_BETA, RegionProposalNetwork
from dlcommon.vision.suppression import batched_nms

CODE_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Factors of the second stage's codes, which are smaller than the first's, since proposals are nearly right."""
MIN_SIDE = 1e-2
"""Detections that are narrower or lower than this, in pixels, are dropped."""
Pool = Callable[[torch.Tensor, Sequence[torch.Tensor]], torch.Tensor]
"""Pools features `[images, channels, height, width]` and boxes `[boxes, 4]` of each image to
`[all boxes, channels, size, size]`."""


@dataclass(frozen=True)
class Detections:
    """Holds what is found in one image, the best score first."""

    boxes: torch.Tensor
    """`[detections, 4]`."""
    scores: torch.Tensor
    """`[detections]`, in (0, 1)."""
    labels: torch.Tensor
    """int64 `[detections]`, classes from 0."""


class TwoMLPHead(nn.Module):
    """Maps pooled features `[boxes, channels, size, size]` to `[boxes, hidden]` by two linear layers with ReLU."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.fc6, self.fc7 = nn.Linear(features, hidden), nn.Linear(hidden, hidden)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Applies both layers."""
        return F.relu(self.fc7(F.relu(self.fc6(pooled.flatten(1)))))


class FastRCNNPredictor(nn.Module):
    """Predicts class logits, background first, and a box code for each class."""

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(hidden, classes + 1)
        self.bbox_pred = nn.Linear(hidden, 4 * (classes + 1))

    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps `[boxes, hidden]` to logits `[boxes, 1 + classes]` and codes `[boxes, 1 + classes, 4]`."""
        return self.cls_score(hidden), self.bbox_pred(hidden).unflatten(1, (-1, 4))


class RoIHeads(nn.Module):
    """Names the proposals and corrects them: all that Fast R-CNN does after the backbone."""

    def __init__(
        self,
        channels: int,
        classes: int,
        stride: int,
        *,
        pool: Pool | None = None,
        pooled_size: int = 7,
        hidden: int = 1024,
        threshold: float = 0.5,
        sample: int = 512,
        positive_fraction: float = 0.25,
        min_score: float = 0.05,
        nms_threshold: float = 0.5,
        max_detections: int = 100,
    ) -> None:
        """Makes the heads.

        Args:
            channels: of the features.
            classes: without the background.
            stride: pixels of the image for each cell of the features.
            pool: how a box's features become a grid of `pooled_size`; by default RoI align.
            pooled_size: bins a side.
            hidden: width of the two linear layers.
            threshold: least IoU of a proposal that stands for an object; all others are background.
            sample: proposals of an image that enter the loss.
            positive_fraction: largest share among them of those that stand for an object.
            min_score: least score of a detection.
            nms_threshold: greatest IoU of two detections of one class.
            max_detections: how many an image has at most.
        """
        super().__init__()
        self.box_head = TwoMLPHead(channels * pooled_size**2, hidden)
        self.box_predictor = FastRCNNPredictor(hidden, classes)
        self.pool = pool or partial(roi_align, output_size=pooled_size, spatial_scale=1 / stride)
        self.threshold, self.sample, self.positive_fraction = threshold, sample, positive_fraction
        self.min_score, self.nms_threshold, self.max_detections = min_score, nms_threshold, max_detections

    def forward(self, features: torch.Tensor, proposals: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Predicts for the proposals `[proposals, 4]` of each image.

        Returns:
            Logits `[all proposals, 1 + classes]` and codes `[all proposals, 1 + classes, 4]`.
        """
        logits, codes = self.box_predictor(self.box_head(self.pool(features, proposals)))
        return logits, codes

    @torch.no_grad()
    def detect(
        self, features: torch.Tensor, proposals: Sequence[torch.Tensor], image_size: tuple[int, int]
    ) -> list[Detections]:
        """Finds the objects of each image: every class of every proposal is a candidate, suppression decides."""
        counts = [len(boxes) for boxes in proposals]
        logits, codes = (each.split(counts) for each in self(features, proposals))
        return [self._choose(*image, image_size) for image in zip(logits, codes, proposals, strict=True)]

    def _choose(
        self, logits: torch.Tensor, codes: torch.Tensor, proposals: torch.Tensor, image_size: tuple[int, int]
    ) -> Detections:
        boxes = clip_boxes(decode_boxes(codes, proposals, CODE_WEIGHTS), *image_size)[:, 1:]  # [proposals, classes, 4]
        scores = logits.softmax(dim=1)[:, 1:]  # [proposals, classes]
        wanted = (scores > self.min_score) & ((boxes[..., 2:] - boxes[..., :2]) >= MIN_SIDE).all(2)
        labels = wanted.nonzero()[:, 1]
        boxes, scores = boxes[wanted], scores[wanted]
        keep = batched_nms(boxes, scores, labels, self.nms_threshold)[: self.max_detections]
        return Detections(boxes[keep], scores[keep], labels[keep])

    def losses(
        self,
        features: torch.Tensor,
        proposals: Sequence[torch.Tensor],
        targets: Sequence[tuple[torch.Tensor, torch.Tensor]],
    ) -> dict[str, torch.Tensor]:
        """Computes the losses of classes and codes on a sample of proposals and of the objects' own boxes."""
        sampled, labels, wanted = [], [], []
        for found, (boxes, classes) in zip(proposals, targets, strict=True):
            candidates = torch.cat((found, boxes))  # so that there is something to learn from before proposals are good
            matches = match_anchors(box_iou(boxes, candidates), self.threshold, self.threshold, force=False)
            chosen = torch.cat(sample_matches(matches, self.sample, self.positive_fraction))
            matches, of_object = matches[chosen], matches[chosen] != BELOW
            sampled.append(candidates[chosen])
            labels.append(torch.zeros_like(matches).masked_scatter(of_object, 1 + classes[matches[of_object]]))
            wanted.append(encode_boxes(boxes[matches[of_object]], sampled[-1][of_object], CODE_WEIGHTS))
        logits, codes = self(features, sampled)
        label = torch.cat(labels)
        of_object = label > 0
        codes = codes[of_object, label[of_object]]  # [positive proposals, 4], those of the right class
        box_loss = F.smooth_l1_loss(codes, torch.cat(wanted), beta=SMOOTH_L1_BETA, reduction="sum")
        return {"loss_classifier": F.cross_entropy(logits, label), "loss_box_reg": box_loss / len(label)}


class FasterRCNN(nn.Module):
    """Detects objects in two stages that share the features of one backbone."""

    def __init__(self, backbone: nn.Module, rpn: RegionProposalNetwork, roi_heads: RoIHeads) -> None:
        super().__init__()
        self.backbone, self.rpn, self.roi_heads = backbone, rpn, roi_heads

    def losses(
        self, images: torch.Tensor, targets: Sequence[tuple[torch.Tensor, torch.Tensor]]
    ) -> dict[str, torch.Tensor]:
        """Computes the four losses, whose sum is trained.

        Args:
            images: `[images, 3, height, width]`.
            targets: boxes `[objects, 4]` and classes from 0, int64 `[objects]`, of each image.
        """
        features = self.backbone(images)
        height, width = images.shape[2:]
        proposals, losses = self.rpn(features, (height, width), [boxes for boxes, _ in targets])
        return losses | self.roi_heads.losses(features, proposals, targets)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> list[Detections]:
        """Finds the objects in images `[images, 3, height, width]`."""
        features = self.backbone(images)
        height, width = images.shape[2:]
        proposals, _ = self.rpn(features, (height, width))
        return self.roi_heads.detect(features, proposals, (height, width))
