"""Non-maximum suppression: one detection for each object, where a detector gives many."""

from typing import Literal

import torch

from dlcommon.vision.boxes import box_iou


def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Keeps the best-scored box, drops all that overlap it by more than the threshold, and repeats with what is left.

    Args:
        boxes: `[n, 4]`.
        scores: `[n]`.
        iou_threshold: greatest IoU that two kept boxes may have.

    Returns:
        Indices of the boxes that are kept, int64 `[kept]`, the best score first.
    """
    left = scores.argsort(descending=True, stable=True)
    keep = []
    while len(left):
        best = left[0]
        keep.append(best)
        overlap = box_iou(boxes[best, None], boxes[left[1:]])[0]  # [left - 1]
        left = left[1:][overlap <= iou_threshold]
    return torch.stack(keep) if keep else left


def batched_nms(boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Suppresses within each class only: a box never removes one of another class.

    Args:
        boxes: `[n, 4]`.
        scores: `[n]`.
        labels: int64 `[n]`: the class of each box, or any other group.
        iou_threshold: greatest IoU that two kept boxes of a class may have.

    Returns:
        Indices of the boxes that are kept, int64 `[kept]`, the best score first.
    """
    kept = torch.zeros_like(labels, dtype=torch.bool)
    for label in labels.unique():
        of_class = (labels == label).nonzero()[:, 0]
        kept[of_class[nms(boxes[of_class], scores[of_class], iou_threshold)]] = True
    indices = kept.nonzero()[:, 0]
    return indices[scores[indices].argsort(descending=True, stable=True)]


def soft_nms(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    method: Literal["linear", "gaussian"] = "gaussian",
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 1e-3,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lowers the scores of overlapping boxes instead of dropping them (Bodla et al. 2017).

    Args:
        boxes: `[n, 4]`.
        scores: `[n]`.
        method: `linear` multiplies by 1 - IoU where the IoU exceeds the threshold; `gaussian` by exp(-IoU² / sigma).
        iou_threshold: used by `linear`.
        sigma: used by `gaussian`.
        min_score: boxes whose score falls below it are dropped.

    Returns:
        Indices of the boxes that are left, int64 `[kept]`, in the order in which they were picked, and their lowered
        scores `[kept]`.
    """
    left, scores = torch.arange(len(boxes), device=boxes.device), scores.clone()
    keep = []
    while len(left := left[scores[left] >= min_score]):
        best = left[scores[left].argmax()]  # chosen anew each time, since the scores have changed
        keep.append(best)
        left = left[left != best]
        overlap = box_iou(boxes[best, None], boxes[left])[0]
        if method == "linear":
            decay = torch.where(overlap > iou_threshold, 1 - overlap, torch.ones_like(overlap))
        else:
            decay = torch.exp(-overlap.square() / sigma)
        scores[left] *= decay
    indices = torch.stack(keep) if keep else left
    return indices, scores[indices]
