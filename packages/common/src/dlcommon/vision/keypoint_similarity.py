"""How right are keypoints? PCK, OKS, and the average precision over OKS by which COCO ranks pose estimation."""

from collections.abc import Sequence

import numpy as np
import torch

from dlcommon.vision.average_precision import COCO_THRESHOLDS, ImageOverlaps, class_average_precision

COCO_SIGMAS = (
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087,
    0.089, 0.089,
)  # fmt: skip
"""By how much annotators of COCO differ, as a share of √area: nose, eyes, ears, shoulders, elbows, wrists, hips, knees,
ankles, the left one first."""
MAX_PEOPLE = 20
"""Predictions that COCO counts in an image, the surest."""


def percentage_of_correct_keypoints(
    predicted: torch.Tensor,
    truth: torch.Tensor,
    visible: torch.Tensor,
    reference_length: torch.Tensor,
    fraction: float = 0.5,
) -> torch.Tensor:
    """Computes PCK: the share of visible keypoints that are within a fraction of the person's own length.

    With the head's size as the length and the fraction 0.5 it is PCKh (Andriluka et al. 2014).

    Args:
        predicted: [people, keypoints, 2].
        truth: [people, keypoints, 2].
        visible: bool [people, keypoints]; others do not count.
        reference_length: [people], in the unit of the positions.
        fraction: of the reference length.

    Returns:
        A scalar between 0 and 1; NaN if nothing is visible.
    """
    distances = (predicted - truth).norm(dim=-1)  # [people, keypoints]
    right = distances <= fraction * reference_length[:, None]
    share: torch.Tensor = (right & visible).sum() / visible.sum()
    return share


def object_keypoint_similarity(
    predicted: torch.Tensor,
    truth: torch.Tensor,
    visible: torch.Tensor,
    area: torch.Tensor,
    sigmas: torch.Tensor | Sequence[float] = COCO_SIGMAS,
) -> torch.Tensor:
    """Computes OKS, the mean over visible keypoints of exp(−d² / (2 · area · (2σ)²)), as pycocotools does.

    https://cocodataset.org/#keypoints-eval. Leading dimensions are broadcast: [people, 1, …] against [1, others, …]
    compares all pairs.

    Args:
        predicted: [..., keypoints, 2].
        truth: [..., keypoints, 2].
        visible: bool [..., keypoints]: labelled in the truth; others do not count.
        area: of the person in the truth, in square pixels, [...].
        sigmas: of each keypoint, [keypoints].

    Returns:
        Between 0 and 1, [...]; 0 where nothing is visible. (pycocotools then compares with the box instead.)
    """
    sigmas = torch.as_tensor(sigmas, dtype=predicted.dtype, device=predicted.device)
    squared = (predicted - truth).square().sum(dim=-1)  # [..., keypoints]
    # pycocotools adds the smallest step of float64 to the area, so that an area of 0 divides nothing by 0.
    exponent = squared / (2 * sigmas).square() / (area[..., None] + np.spacing(1)) / 2
    return (torch.exp(-exponent) * visible).sum(dim=-1) / visible.sum(dim=-1).clamp(min=1)


def pose_overlaps(
    predicted: torch.Tensor,
    scores: torch.Tensor,
    truth: torch.Tensor,
    visible: torch.Tensor,
    area: torch.Tensor,
    sigmas: torch.Tensor | Sequence[float] = COCO_SIGMAS,
) -> ImageOverlaps:
    """Measures all predictions of an image against all its people by OKS: what average precision is computed from.

    Args:
        predicted: [predictions, keypoints, 2].
        scores: how sure each prediction is, [predictions].
        truth: [people, keypoints, 2].
        visible: bool [people, keypoints].
        area: of each person, [people].
        sigmas: of each keypoint, [keypoints].
    """
    oks = object_keypoint_similarity(predicted[:, None], truth, visible, area, sigmas)  # [predictions, people]
    extent = predicted.amax(dim=1) - predicted.amin(dim=1)  # a prediction's area is that of the box around it
    return ImageOverlaps(
        scores=scores.numpy(),
        labels=np.zeros(len(predicted), int),  # all are people
        truth_labels=np.zeros(len(truth), int),
        iou=oks.numpy(),
        areas=extent.prod(dim=1).numpy(),
        truth_areas=area.numpy(),
    )


def keypoint_average_precision(images: Sequence[ImageOverlaps], thresholds: Sequence[float] = COCO_THRESHOLDS) -> float:
    """Computes COCO's AP of keypoints, the mean over OKS thresholds 0.50 to 0.95; the surest 20 of each image count.

    Returns:
        Between 0 and 1; NaN where there are no people.
    """
    return float(np.mean([class_average_precision(images, 0, each, max_detections=MAX_PEOPLE) for each in thresholds]))
