"""Ensembles of networks (Hansen & Salamon 1990, "Neural network ensembles")."""

import torch
from torch import nn
from torch.nn import functional as F


class Ensemble(nn.Module):
    """Runs networks side by side on the same batches."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns every member's own logits, [members, batch, num_classes]."""
        return torch.stack([member(inputs) for member in self.members])


def mean_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Computes the mean of the members' losses, each the mean over the batch.

    With its gradient multiplied by the number of members, each of them learns as it would alone.

    Args:
        logits: [members, batch, num_classes].
        labels: [batch].
        label_smoothing: as of `torch.nn.functional.cross_entropy`.
    """
    # [members·batch, num_classes] against the labels once per member: all groups are of one size, so that the mean
    # over everything is the mean of the members' means.
    return F.cross_entropy(logits.float().flatten(0, 1), labels.repeat(len(logits)), label_smoothing=label_smoothing)
