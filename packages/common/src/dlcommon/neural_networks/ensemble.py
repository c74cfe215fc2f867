"""Networks that answer together (Hansen & Salamon 1990, "Neural network ensembles")."""

import torch
from torch import nn


class Ensemble(nn.Module):
    """Networks that are trained side by side on the same batches.

    They differ by their random weights alone, which is most of what makes an ensemble's errors differ (Lakshminarayanan
    et al. 2017, https://arxiv.org/abs/1612.01474, section 2.4).
    """

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Each one's own output: logits [members, batch, classes]."""
        return torch.stack([member(inputs) for member in self.members])
