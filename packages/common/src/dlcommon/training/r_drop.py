"""R-Drop: two passes with different dropout are to agree (Liang et al. 2021, https://arxiv.org/abs/2106.14448)."""

import torch
from torch.nn import functional as F


def r_drop_loss(first: torch.Tensor, second: torch.Tensor, targets: torch.Tensor, alpha: float) -> torch.Tensor:
    """Computes the mean cross-entropy of two passes plus alpha times the divergence between them.

    With p₁ and p₂ the probabilities of the two passes, which differ by their dropout alone, the divergence is
    (KL(p₁ ‖ p₂) + KL(p₂ ‖ p₁)) / 2. The paper adds the two cross-entropies up (equation 4); this takes their mean, so
    that `alpha` 0 and no dropout give the usual loss, and its `alpha` is half the paper's.

    Args:
        first: logits of one pass, [batch, classes].
        second: logits of the other, [batch, classes].
        targets: classes, int64 [batch], or probabilities of the classes, [batch, classes].
        alpha: weight of the divergence.

    Returns:
        The mean over the batch, a scalar.

    Raises:
        ValueError: the two passes differ in shape, or `alpha` is negative.
    """
    if first.shape != second.shape:
        raise ValueError(f"the two passes differ in shape: {list(first.shape)} and {list(second.shape)}")
    if alpha < 0:
        raise ValueError(f"alpha must be at least 0, not {alpha}")
    cross_entropy = (F.cross_entropy(first, targets) + F.cross_entropy(second, targets)) / 2
    log_p1, log_p2 = first.log_softmax(dim=1), second.log_softmax(dim=1)  # [batch, classes]
    # KL(p₁ ‖ p₂) + KL(p₂ ‖ p₁) = Σ (p₁ − p₂)(log p₁ − log p₂)
    divergence = ((log_p1.exp() - log_p2.exp()) * (log_p1 - log_p2)).sum(dim=1).mean() / 2
    return cross_entropy + alpha * divergence
