"""Losses from their definitions; those of classification take logits, before any softmax or sigmoid.

None takes the logarithm of a probability that may have been rounded to 0: they are written with log-sum-exp, which
neither overflows nor underflows. Names and reductions are torch's: the mean over elements (in cross-entropy: over
targets that are not ignored), their sum, or none.
"""

from typing import Literal

import torch

Reduction = Literal["mean", "sum", "none"]


def _reduce(losses: torch.Tensor, reduction: Reduction) -> torch.Tensor:
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def _require_same_shape(predictions: torch.Tensor, targets: torch.Tensor) -> None:
    # [batch, 1] against [batch] would broadcast to [batch, batch], train, and learn only the mean.
    if predictions.shape != targets.shape:
        raise ValueError(f"predictions {list(predictions.shape)} and targets {list(targets.shape)} differ in shape")


def mse_loss(predictions: torch.Tensor, targets: torch.Tensor, reduction: Reduction = "mean") -> torch.Tensor:
    """Computes (prediction − target)², a Gaussian's negative log-likelihood; the mean minimizes it.

    Raises:
        ValueError: the shapes differ.
    """
    _require_same_shape(predictions, targets)
    return _reduce((predictions - targets).square(), reduction)


def l1_loss(predictions: torch.Tensor, targets: torch.Tensor, reduction: Reduction = "mean") -> torch.Tensor:
    """Computes |prediction − target|, a Laplacian's negative log-likelihood; the median minimizes it.

    Raises:
        ValueError: the shapes differ.
    """
    _require_same_shape(predictions, targets)
    return _reduce((predictions - targets).abs(), reduction)


def huber_loss(
    predictions: torch.Tensor, targets: torch.Tensor, delta: float = 1.0, reduction: Reduction = "mean"
) -> torch.Tensor:
    """Computes half the squared error up to `delta`, and beyond it a line of slope `delta` (Huber 1964).

    Raises:
        ValueError: the shapes differ, or `delta` is not positive.
    """
    _require_same_shape(predictions, targets)
    if not delta > 0:
        raise ValueError(f"delta must be positive, not {delta}")
    distance = (predictions - targets).abs()
    return _reduce(torch.where(distance < delta, distance.square() / 2, delta * (distance - delta / 2)), reduction)


def log_softmax(logits: torch.Tensor, dim: int = 1) -> torch.Tensor:
    """Computes logits − log Σ exp(logits) along `dim`; subtracting the largest logit first prevents overflow."""
    shifted = logits - logits.detach().amax(dim, keepdim=True)
    return shifted - shifted.exp().sum(dim, keepdim=True).log()


def cross_entropy(
    logits: torch.Tensor,
    targets: torch.Tensor,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> torch.Tensor:
    """Computes −Σ target · log softmax(logits) over the classes.

    Args:
        logits: [batch, num_classes, …].
        targets: class indices [batch, …], or probabilities shaped like the logits, as mixup makes them.
        label_smoothing: fraction of the target that is spread evenly over all classes (Szegedy et al. 2016, section 7).
        ignore_index: targets of this index, such as padding, are ignored; all others must be classes. The mean over
            no target at all is nan.
        reduction: "mean", "sum" or "none".

    Raises:
        ValueError: the shapes do not fit, or `label_smoothing` is outside 0 … 1.
    """
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must lie in 0 … 1, not {label_smoothing}")
    log_probabilities = log_softmax(logits)
    if targets.is_floating_point():
        _require_same_shape(logits, targets)
        counted = None
        losses = -(targets * log_probabilities).sum(1)
    else:
        if logits.shape[:1] + logits.shape[2:] != targets.shape:
            raise ValueError(f"logits {list(logits.shape)} and targets {list(targets.shape)} do not fit each other")
        counted = targets != ignore_index
        index = targets.where(counted, 0).unsqueeze(1)  # [batch, 1, …]; ignored ones point anywhere that exists
        losses = -log_probabilities.gather(1, index).squeeze(1)  # [batch, …]
    if label_smoothing:
        # The uniform part of the target: Σ (1/C) · −log p over C classes is the mean.
        losses = (1 - label_smoothing) * losses - label_smoothing * log_probabilities.mean(1)
    if counted is None:
        return _reduce(losses, reduction)
    losses = losses.where(counted, 0)
    return losses.sum() / counted.sum() if reduction == "mean" else _reduce(losses, reduction)


def softplus(x: torch.Tensor) -> torch.Tensor:
    """Computes log(1 + eˣ) = −log sigmoid(−x), for x of any size."""
    return torch.logaddexp(x, torch.zeros_like(x))


def binary_cross_entropy_with_logits(
    logits: torch.Tensor, targets: torch.Tensor, pos_weight: float = 1.0, reduction: Reduction = "mean"
) -> torch.Tensor:
    """Computes −w · target · log σ(logit) − (1 − target) · log(1 − σ(logit)).

    Args:
        logits: of any shape.
        targets: probabilities of the positive class, of the same shape.
        pos_weight: w; above 1 where positives are rare and must not be missed.

    Raises:
        ValueError: the shapes differ.
    """
    _require_same_shape(logits, targets)
    return _reduce(pos_weight * targets * softplus(-logits) + (1 - targets) * softplus(logits), reduction)


def sigmoid_focal_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    reduction: Reduction = "mean",
) -> torch.Tensor:
    """Computes binary cross-entropy times (1 − p)^gamma, where p is the probability of the truth.

    Easy samples count little.

    Lin et al. 2017 (https://arxiv.org/abs/1708.02002), equation 5.

    Args:
        logits: of any shape.
        targets: 1 or 0, of the same shape.
        alpha: weight of positives, with 1 − alpha that of negatives; None weights both by 1.
        gamma: 0 gives binary cross-entropy.

    Raises:
        ValueError: the shapes differ.
    """
    losses = binary_cross_entropy_with_logits(logits, targets, reduction="none")
    # log(1 − p), where 1 − p is σ(−logit) for a positive: a power of 1 − p below 1 has no finite slope at 0.
    log_missed = -(targets * softplus(logits) + (1 - targets) * softplus(-logits))
    losses = (gamma * log_missed).exp() * losses
    if alpha is not None:
        losses = (alpha * targets + (1 - alpha) * (1 - targets)) * losses
    return _reduce(losses, reduction)
