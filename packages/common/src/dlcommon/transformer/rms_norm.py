"""Root-mean-square normalization (Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467, equation 4)."""

import torch
from torch import nn


def rms_norm(x: torch.Tensor, epsilon: float = 1e-6) -> torch.Tensor:
    """x / √(mean(x²) + ε) over the last axis, computed in float32 whatever x is."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + epsilon)).to(x.dtype)


class RMSNorm(nn.Module):
    """`rms_norm` with a learnt scale for each of `dim` features: [batch, …, dim] to the same."""

    def __init__(self, dim: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.epsilon = epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return rms_norm(x, self.epsilon) * self.weight.to(x.dtype)
