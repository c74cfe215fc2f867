"""Losses of a segmentation beside cross-entropy: Dice, and weights for rare classes."""

import torch
from torch.nn import functional as F


def binary_dice_loss(logits: torch.Tensor, target: torch.Tensor, smooth: float = 1.0) -> torch.Tensor:
    """Computes 1 − (2 Σ p y + smooth) / (Σ p + Σ y + smooth) of each picture, averaged over the batch.

    Equals `dice_loss` of transformers' DETR. The sums run over all pixels of a picture, so that background which is
    right adds nothing to any of them.

    Args:
        logits: [batch, ...], one for each pixel.
        target: the same shape, 0 or 1.
        smooth: keeps the quotient defined where there is nothing to find; an empty prediction is then right.

    Raises:
        ValueError: the shapes differ.
    """
    if logits.shape != target.shape:
        raise ValueError(f"logits have shape {tuple(logits.shape)}, target {tuple(target.shape)}")
    probability, truth = logits.sigmoid().flatten(1), target.to(logits.dtype).flatten(1)  # [batch, pixels]
    overlap = (probability * truth).sum(dim=1)
    return (1 - (2 * overlap + smooth) / (probability.sum(dim=1) + truth.sum(dim=1) + smooth)).mean()


def dice_loss(logits: torch.Tensor, target: torch.Tensor, smooth: float = 1.0) -> torch.Tensor:
    """Computes 1 − the mean over classes of their soft Dice coefficient, with sums over the whole batch.

    Each class counts the same, however few its pixels. V-Net (Milletari et al. 2016) squares the terms of the
    denominator; here they are as in the Dice coefficient itself, so that hard predictions give exactly that.

    Args:
        logits: [batch, num_classes, height, width].
        target: int64 [batch, height, width].
        smooth: keeps the quotient defined for a class that is in no picture of the batch.
    """
    probability = logits.softmax(dim=1).transpose(0, 1).flatten(1)  # [num_classes, pixels of the batch]
    truth = F.one_hot(target.flatten(), logits.size(1)).T.to(logits.dtype)  # the same shape
    overlap = (probability * truth).sum(dim=1)
    return 1 - ((2 * overlap + smooth) / (probability.sum(dim=1) + truth.sum(dim=1) + smooth)).mean()


def balanced_class_weights(target: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Computes pixels / (num_classes · pixels of the class), for `F.cross_entropy(…, weight=…)`: float [num_classes].

    Every class then has the same share in the loss. Equals scikit-learn's `compute_class_weight("balanced", …)`.

    Raises:
        ValueError: a class has no pixel.
    """
    counts = torch.bincount(target.flatten(), minlength=num_classes)
    if int(counts.min()) == 0:
        raise ValueError(f"no pixel of class {int(counts.argmin())}; its weight would be infinite")
    return target.numel() / (num_classes * counts.float())
