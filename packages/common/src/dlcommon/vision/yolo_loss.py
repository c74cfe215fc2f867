"""The loss of YOLOv8: boxes by CIoU, distances by distribution focal loss, classes by binary cross-entropy."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn import functional as F

from dlcommon.vision.anchor_points import boxes_to_distances
from dlcommon.vision.distribution_focal_loss import distribution_focal_loss
from dlcommon.vision.iou_losses import ciou_loss
from dlcommon.vision.task_aligned_assignment import Targets, target_scores, task_aligned_assignment
from dlcommon.vision.yolo_v8 import Predictions


class LossTerms(NamedTuple):
    """The three parts of the loss, each times its gain."""

    box: torch.Tensor
    classes: torch.Tensor
    distances: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        """Returns their sum, which does not grow with the batch; ultralytics' trainer multiplies by the batch size."""
        return self.box + self.classes + self.distances


@dataclass(frozen=True)
class YoloLoss:
    """Computes the loss of a batch; the defaults are ultralytics'."""

    box_gain: float = 7.5
    class_gain: float = 0.5
    distance_gain: float = 1.5
    top_k: int = 10
    """Anchor points that an object is assigned at most."""
    alpha: float = 0.5
    """Exponent of the class's score in the alignment."""
    beta: float = 6.0
    """Exponent of the box's CIoU in the alignment."""
    min_side: float = 16.0
    """Objects smaller than this many pixels count as this large when the anchor points inside are sought."""

    def __call__(self, predictions: Predictions, targets: Targets) -> LossTerms:
        """Returns the loss of predictions that training mode made, with gradients.

        Args:
            predictions: of the whole batch.
            targets: the true objects.
        """
        logits = predictions.logits
        assignment = task_aligned_assignment(
            logits.detach().sigmoid(),
            predictions.boxes.detach(),
            predictions.points,
            targets,
            top_k=self.top_k,
            alpha=self.alpha,
            beta=self.beta,
            min_side=self.min_side,
        )
        wanted = target_scores(assignment, logits.size(-1)).to(logits.dtype)  # [batch, anchors, classes]
        normalizer = wanted.sum().clamp(min=1)
        classes = F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")

        image, anchor = assignment.positive.nonzero(as_tuple=True)  # [positives] each
        weight = assignment.strengths[image, anchor]
        true_boxes = assignment.boxes[image, anchor]
        box = ciou_loss(predictions.boxes[image, anchor], true_boxes) * weight
        distances = boxes_to_distances(predictions.points[anchor], true_boxes) / predictions.strides[anchor]  # in bins
        by_edge = distribution_focal_loss(predictions.distributions[image, anchor], distances)  # [positives, 4]
        return LossTerms(
            self.box_gain * box.sum() / normalizer,
            self.class_gain * classes / normalizer,
            self.distance_gain * (by_edge.mean(dim=-1) * weight).sum() / normalizer,
        )
