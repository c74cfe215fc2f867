"""Scores of a segmentation: pixel accuracy, IoU and Dice, all from one confusion matrix.

Shapes: label maps int64 [batch, height, width], or any shape in which both agree.
"""

import torch


def confusion_matrix(
    predicted: torch.Tensor, target: torch.Tensor, num_classes: int, ignore_index: int = 255
) -> torch.Tensor:
    """Counts pixels by their true class (row) and predicted class (column): int64 [num_classes, num_classes].

    Matrices of several batches are added before anything is computed from them.

    Args:
        predicted: int64, any shape; 0 to num_classes − 1.
        target: int64, the same shape; pixels with `ignore_index` are left out.
        num_classes: number of classes.
        ignore_index: label of pixels that nobody could annotate, such as the edges in Pascal VOC.

    Raises:
        ValueError: the shapes differ, or a label is out of range.
    """
    if predicted.shape != target.shape:
        raise ValueError(f"predicted has shape {tuple(predicted.shape)}, target {tuple(target.shape)}")
    counted = target != ignore_index
    true, found = target[counted], predicted[counted]
    for name, labels in (("target", true), ("predicted", found)):
        if labels.numel() and (int(labels.min()) < 0 or int(labels.max()) >= num_classes):
            raise ValueError(f"{name} has labels {int(labels.min())} to {int(labels.max())}; there are {num_classes}")
    return torch.bincount(true * num_classes + found, minlength=num_classes**2).view(num_classes, num_classes)


def pixel_accuracy(confusion: torch.Tensor) -> torch.Tensor:
    """Computes the share of pixels that are right: a scalar."""
    return confusion.diagonal().sum() / confusion.sum()


def iou_per_class(confusion: torch.Tensor) -> torch.Tensor:
    """Computes intersection over union, TP / (TP + FP + FN), of each class: float [num_classes].

    A class that is neither in the pictures nor predicted has no IoU: it is NaN, and `Tensor.nanmean` leaves it out.
    """
    true_positives = confusion.diagonal()
    return true_positives / (confusion.sum(dim=1) + confusion.sum(dim=0) - true_positives)


def dice_per_class(confusion: torch.Tensor) -> torch.Tensor:
    """Computes the Dice coefficient, 2 TP / (2 TP + FP + FN), of each class: float [num_classes]; NaN as for IoU.

    It is the F1 score of the pixels, and 2 IoU / (1 + IoU).
    """
    return 2 * confusion.diagonal() / (confusion.sum(dim=1) + confusion.sum(dim=0))
