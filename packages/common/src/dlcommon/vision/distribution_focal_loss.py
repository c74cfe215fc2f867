"""Distances predicted as distributions over bins, and the loss that trains them.

Generalized Focal Loss (Li et al. 2020, arXiv:2006.04388), equations 5 and 6.
"""

import torch
from torch.nn import functional as F


def expected_distance(logits: torch.Tensor, bins: torch.Tensor) -> torch.Tensor:
    """Returns the mean of the distribution that `logits` define over `bins` (equation 5).

    Args:
        logits: [..., bins].
        bins: the distance that each bin stands for, [bins].

    Returns:
        [...], in the unit of `bins`.
    """
    # A product and a sum rather than a matrix product, which autocast would round to bfloat16.
    return (logits.softmax(dim=-1) * bins).sum(dim=-1)


def distribution_focal_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Returns the cross-entropy of the two bins around each target, weighted by how near each is (equation 6).

    Args:
        logits: [..., bins], of the distances 0, 1, …, bins - 1.
        target: true distances [...]; they are clamped to 0 … bins - 1.01, so that there is a bin on either side.

    Returns:
        [...], one loss for each distance.
    """
    bins = logits.size(-1)
    target = target.clamp(0, bins - 1 - 0.01)
    below = target.long()
    near = target - below  # share of the upper bin
    log_probabilities = F.log_softmax(logits, dim=-1)
    pair = log_probabilities.gather(-1, torch.stack((below, below + 1), dim=-1))  # [..., 2]
    return -(pair[..., 0] * (1 - near) + pair[..., 1] * near)
