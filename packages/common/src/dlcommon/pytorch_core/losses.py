"""Losses, from their definitions; each takes what a network gives before any softmax or sigmoid.

A loss of logits never takes the logarithm of a probability that has already been rounded to 0: it is written with
log-sum-exp, which neither overflows nor vanishes. Reductions are torch's: the mean over elements (of cross-entropy:
over targets that count), their sum, or none.
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


def mean_squared_error(predictions: torch.Tensor, targets: torch.Tensor, reduction: Reduction = "mean") -> torch.Tensor:
    """(prediction − target)²: the negative log-likelihood of a Gaussian; best is the mean.

    Raises:
        ValueError: the shapes differ.
    """
    _require_same_shape(predictions, targets)
    return _reduce((predictions - targets).square(), reduction)


def mean_absolute_error(
    predictions: torch.Tensor, targets: torch.Tensor, reduction: Reduction = "mean"
) -> torch.Tensor:
    """|prediction − target|: the negative log-likelihood of a Laplacian; best is the median.

    Raises:
        ValueError: the shapes differ.
    """
    _require_same_shape(predictions, targets)
    return _reduce((predictions - targets).abs(), reduction)


def huber(
    predictions: torch.Tensor, targets: torch.Tensor, delta: float = 1.0, reduction: Reduction = "mean"
) -> torch.Tensor:
    """Half the squared error up to `delta`, and from there on a straight line of slope `delta` (Huber 1964).

    Raises:
        ValueError: the shapes differ, or `delta` is not positive.
    """
    _require_same_shape(predictions, targets)
    if not delta > 0:
        raise ValueError(f"delta must be positive, not {delta}")
    distance = (predictions - targets).abs()
    return _reduce(torch.where(distance < delta, distance.square() / 2, delta * (distance - delta / 2)), reduction)


def log_softmax(logits: torch.Tensor, dim: int = 1) -> torch.Tensor:
    """logits − log Σ exp(logits) along `dim`, without overflow: the largest logit is taken out first."""
    shifted = logits - logits.detach().amax(dim, keepdim=True)
    return shifted - shifted.exp().sum(dim, keepdim=True).log()


def cross_entropy(
    logits: torch.Tensor,
    targets: torch.Tensor,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> torch.Tensor:
    """−Σ target · log softmax(logits) over the classes.

    Args:
        logits: [batch, classes, …].
        targets: indices of classes, [batch, …]; or probabilities, shaped as the logits, as mixup makes them.
        label_smoothing: share of the target that is spread evenly over all classes (Szegedy et al. 2016, section 7).
        ignore_index: targets of this index, such as padding, do not count; all others must be classes. The mean over
            no target at all is nan.

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
        index = targets.where(counted, 0).unsqueeze(1)
        losses = -log_probabilities.gather(1, index).squeeze(1)
    if label_smoothing:
        losses = (1 - label_smoothing) * losses - label_smoothing * log_probabilities.mean(1)
    if counted is None:
        return _reduce(losses, reduction)
    losses = losses.where(counted, 0)
    return losses.sum() / counted.sum() if reduction == "mean" else _reduce(losses, reduction)


def softplus(x: torch.Tensor) -> torch.Tensor:
    """log(1 + eˣ) = −log sigmoid(−x), for x of any size."""
    return torch.logaddexp(x, torch.zeros_like(x))


def binary_cross_entropy_with_logits(
    logits: torch.Tensor, targets: torch.Tensor, positive_weight: float = 1.0, reduction: Reduction = "mean"
) -> torch.Tensor:
    """−w · target · log σ(logit) − (1 − target) · log(1 − σ(logit)).

    Args:
        logits: of any shape.
        targets: probabilities of the positive class, of the same shape.
        positive_weight: w; above 1 where positives are rare and must not be missed.

    Raises:
        ValueError: the shapes differ.
    """
    _require_same_shape(logits, targets)
    return _reduce(positive_weight * targets * softplus(-logits) + (1 - targets) * softplus(logits), reduction)


def sigmoid_focal_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    reduction: Reduction = "mean",
) -> torch.Tensor:
    """Binary cross-entropy times (1 − p)^gamma, p being the probability of the truth: easy samples count little.

    Lin et al. 2017 (https://arxiv.org/abs/1708.02002), equation 5.

    Args:
        logits: of any shape.
        targets: 1 or 0, of the same shape.
        alpha: weight of the positives, those of the negatives being 1 − alpha; None weighs both 1.
        gamma: 0 gives binary cross-entropy.

    Raises:
        ValueError: the shapes differ.
    """
    losses = binary_cross_entropy_with_logits(logits, targets, reduction="none")
    # 1 − p is σ(−logit) for a positive; as a logarithm, since a power below 1 has no finite slope at 0.
    log_missed = -(targets * softplus(logits) + (1 - targets) * softplus(-logits))
    losses = (gamma * log_missed).exp() * losses
    if alpha is not None:
        losses = (alpha * targets + (1 - alpha) * (1 - targets)) * losses
    return _reduce(losses, reduction)
