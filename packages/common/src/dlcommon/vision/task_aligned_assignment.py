"""Task-aligned assignment: which anchor points are trained to find which object.

TOOD (Feng et al. 2021, arXiv:2108.07755), section 3.2, with the constants of YOLOv8. Legend: `objects` is the largest
number of objects in an image of the batch; images with fewer have rows that are not `valid`.
"""

from typing import NamedTuple

import torch
from torch.nn import functional as F

from dlcommon.vision.iou_losses import ciou_loss


class Targets(NamedTuple):
    """The true objects of a batch, padded to one number for all images."""

    labels: torch.Tensor
    """Class of each object, int64 [batch, objects]."""
    boxes: torch.Tensor
    """Left, top, right, bottom in pixels, [batch, objects, 4]."""
    valid: torch.Tensor
    """False where a row is padding, bool [batch, objects]."""


class Assignment(NamedTuple):
    """What every anchor point is trained to predict."""

    positive: torch.Tensor
    """Whether the anchor is assigned to an object, bool [batch, anchors]."""
    objects: torch.Tensor
    """Row of the object that it is assigned to, int64 [batch, anchors]; 0 where it is not positive."""
    boxes: torch.Tensor
    """Box of that object in pixels, [batch, anchors, 4]."""
    labels: torch.Tensor
    """Class of that object, int64 [batch, anchors]."""
    strengths: torch.Tensor
    """The score that it is to give to that class, 0 … 1, [batch, anchors]; 0 where it is not positive."""


def pad_targets(image_index: torch.Tensor, labels: torch.Tensor, boxes: torch.Tensor, batch_size: int) -> Targets:
    """Sorts the objects of a batch by image and pads, so that they fit into one tensor.

    Args:
        image_index: the image that each object is in, int64 [n], in any order.
        labels: int64 [n].
        boxes: left, top, right, bottom in pixels, [n, 4].
        batch_size: number of images, with or without objects.

    Returns:
        Targets with at least one row, so that a batch without objects needs no special case.
    """
    counts = torch.bincount(image_index, minlength=batch_size)
    rows = max(1, int(counts.max())) if len(image_index) else 1
    order = image_index.argsort(stable=True)
    image = image_index[order]
    row = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[image]  # number within its image
    padded = Targets(
        labels.new_zeros(batch_size, rows, dtype=torch.long),
        boxes.new_zeros(batch_size, rows, 4),
        torch.zeros(batch_size, rows, dtype=torch.bool, device=boxes.device),
    )
    padded.labels[image, row] = labels[order].long()
    padded.boxes[image, row] = boxes[order]
    padded.valid[image, row] = True
    return padded


def points_inside(points: torch.Tensor, boxes: torch.Tensor, min_side: float = 0.0) -> torch.Tensor:
    """Tells which points lie inside which boxes, sides shorter than `min_side` being lengthened about their center.

    Args:
        points: [anchors, 2] in pixels.
        boxes: [batch, objects, 4] in pixels.
        min_side: in pixels. A box narrower than the cells may hold no center of any, and would never be learned.

    Returns:
        bool [batch, objects, anchors].
    """
    center, half = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]) / 2
    half = half.clamp(min=min_side / 2)
    offset = (points - center[..., None, :]).abs()  # [batch, objects, anchors, 2]
    return (offset < half[..., None, :]).all(dim=-1)


@torch.no_grad()
def task_aligned_assignment(
    scores: torch.Tensor,
    boxes: torch.Tensor,
    points: torch.Tensor,
    targets: Targets,
    *,
    top_k: int = 10,
    alpha: float = 0.5,
    beta: float = 6.0,
    min_side: float = 16.0,
) -> Assignment:
    """Assigns to each object the anchor points that are best at both tasks, telling its class and finding its box.

    Alignment is t = s^α · u^β, for the predicted score s of the object's class and the CIoU u of the
    predicted box. The `top_k` points of highest alignment inside the object are its own; a point that several objects
    claim goes to the one it overlaps most. The score to be learned is t, scaled so that an object's best point gets
    its largest CIoU.

    Args:
        scores: predicted probability of each class, [batch, anchors, classes].
        boxes: predicted boxes in pixels, [batch, anchors, 4].
        points: anchor points in pixels, [anchors, 2].
        targets: the true objects.
        top_k: how many points an object gets at most.
        alpha: the weight of the class.
        beta: the weight of the box.
        min_side: smaller objects count as this large when the points inside are sought, in pixels.
    """
    candidates = points_inside(points, targets.boxes, min_side) & targets.valid[..., None]  # [batch, objects, anchors]
    image, row, anchor = candidates.nonzero(as_tuple=True)  # only pairs that can be assigned are computed
    overlap = (1 - ciou_loss(boxes[image, anchor], targets.boxes[image, row])).clamp(min=0)  # CIoU, [pairs]
    score = scores[image, anchor, targets.labels[image, row]]
    overlaps = boxes.new_zeros(candidates.shape).index_put((image, row, anchor), overlap.to(boxes.dtype))
    alignment = torch.zeros_like(overlaps).index_put(
        (image, row, anchor), (score.pow(alpha) * overlap.pow(beta)).to(boxes.dtype)
    )

    best = alignment.topk(min(top_k, len(points)), dim=-1).indices  # [batch, objects, top_k]
    chosen = torch.zeros_like(candidates).scatter(-1, best, True) & candidates
    contested = chosen.sum(dim=1, keepdim=True) > 1  # [batch, 1, anchors]
    closest = torch.zeros_like(candidates).scatter(1, overlaps.max(dim=1, keepdim=True).indices, True)
    chosen = torch.where(contested, closest, chosen)  # at most one object for each anchor

    alignment, overlaps = alignment * chosen, overlaps * chosen
    scale = overlaps.amax(dim=-1, keepdim=True) / (alignment.amax(dim=-1, keepdim=True) + 1e-9)  # [batch, objects, 1]
    objects = chosen.int().argmax(dim=1)  # [batch, anchors]
    return Assignment(
        chosen.any(dim=1),
        objects,
        targets.boxes.gather(1, objects[..., None].expand(-1, -1, 4)),
        targets.labels.gather(1, objects),
        (alignment * scale).amax(dim=1),
    )


def target_scores(assignment: Assignment, num_classes: int) -> torch.Tensor:
    """Returns the scores to be learned, [batch, anchors, classes]: the strength at the object's class, 0 elsewhere."""
    return F.one_hot(assignment.labels, num_classes) * assignment.strengths[..., None]
