"""Networks that answer together (Hansen & Salamon 1990, "Neural network ensembles")."""

import torch
from torch import nn
from torch.nn import functional as F


class Ensemble(nn.Module):
    """Networks that are trained side by side on the same batches."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Each one's own output: logits [members, batch, classes]."""
        return torch.stack([member(inputs) for member in self.members])


def mean_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """The mean of the members' losses, each the mean over the batch.

    With its gradient multiplied by the number of members, each of them learns as it would alone.

    Args:
        logits: [members, batch, classes].
        labels: [batch].
    """
    return F.cross_entropy(logits.float().flatten(0, 1), labels.repeat(len(logits)), label_smoothing=label_smoothing)
