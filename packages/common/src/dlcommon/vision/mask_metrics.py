"""Scores of masks of single objects: IoU, what average precision needs, and panoptic quality."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from dlcommon.vision.average_precision import ImageOverlaps


def mask_iou(masks1: torch.Tensor, masks2: torch.Tensor) -> torch.Tensor:
    """Computes the IoU of each mask with each other: float32 [n, m].

    Args:
        masks1: bool [n, height, width].
        masks2: bool [m, height, width].

    Returns:
        0 for two empty masks.
    """
    first, second = masks1.flatten(1).float(), masks2.flatten(1).float()  # [masks, pixels]
    intersection = first @ second.T  # pixels in both
    union = first.sum(dim=1)[:, None] + second.sum(dim=1) - intersection
    return intersection / union.clamp(min=1)


def mask_overlaps(
    masks: torch.Tensor,
    scores: torch.Tensor,
    labels: torch.Tensor,
    truth_masks: torch.Tensor,
    truth_labels: torch.Tensor,
) -> ImageOverlaps:
    """Measures the masks found in one picture, for `mean_average_precision`: mask AP is box AP with another IoU.

    Args:
        masks: bool [found, height, width].
        scores: [found].
        labels: int64 [found].
        truth_masks: bool [objects, height, width].
        truth_labels: int64 [objects].
    """
    return ImageOverlaps(
        scores.numpy(),
        labels.numpy(),
        truth_labels.numpy(),
        mask_iou(masks, truth_masks).numpy(),
        masks.flatten(1).sum(dim=1).numpy(),
        truth_masks.flatten(1).sum(dim=1).numpy(),
    )


@dataclass(frozen=True)
class PanopticQuality:
    """Holds the quality of a partition of pictures into objects (Kirillov et al. 2019, equations 1 and 2)."""

    segmentation_quality: float
    """Mean IoU of the matched pairs: how well what is found is outlined."""
    recognition_quality: float
    """F1 score of the matches: how much is found, and how little invented."""

    @property
    def quality(self) -> float:
        """Returns the product of both."""
        return self.segmentation_quality * self.recognition_quality


def panoptic_quality(overlaps: Iterable[torch.Tensor]) -> PanopticQuality:
    """Computes the panoptic quality of one class.

    In each picture the masks found do not overlap one another, nor do the true ones. A pair with an IoU above ½ is then
    the only one for both, so that no matching needs to be solved.

    Args:
        overlaps: for each picture the IoU of each mask found with each true one, [found, objects].
    """
    matched, total, iou = 0, 0, 0.0
    for table in overlaps:
        pairs = table[table > 0.5]
        matched, iou = matched + len(pairs), iou + float(pairs.sum())
        total += table.size(0) + table.size(1)  # 2 TP + FP + FN
    return PanopticQuality(iou / matched if matched else 0.0, 2 * matched / total if total else 0.0)
