"""Root-mean-square normalization (Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467, equation 4)."""

import torch
from torch import nn


def rms_norm(x: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    """Computes x / √(mean(x²) + ε) over the last axis: [..., dim] to [..., dim] of the same dtype.

    The mean of the squares is taken in float32 whatever the dtype of `x`: in bfloat16 it would keep eight bits only.
    """
    x_float = x.float()
    inverse_rms = torch.rsqrt(x_float.square().mean(dim=-1, keepdim=True) + eps)  # [..., 1]
    return (x_float * inverse_rms).to(x.dtype)


class RMSNorm(nn.Module):
    """Applies `rms_norm` and a learnable scale per feature: [..., dim] to [..., dim].

    Equals `torch.nn.RMSNorm(dim, eps)`. Unlike LayerNorm it subtracts no mean and adds no bias.
    """

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [..., dim] to [..., dim] of the same dtype."""
        return rms_norm(x, self.eps) * self.weight.to(x.dtype)
