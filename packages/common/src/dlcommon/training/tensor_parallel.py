"""Tensor parallelism: a layer's weight matrix is split over the processes (Megatron-LM, Shoeybi et al. 2019).

A pair of layers y = W₂ φ(W₁ x) needs one all-reduce in the forward pass and one in the backward pass: the first is
split by its outputs, φ acts on every output alone, and the second is split by its inputs (section 3).
"""

import torch
from torch import distributed, nn
from torch.nn import functional as F

from dlcommon.training.collectives import copy_to_group, reduce_from_group


def own_part(tensor: torch.Tensor, dim: int) -> nn.Parameter:
    """Returns this process's part of a tensor, split along a dimension.

    Raises:
        ValueError: the dimension cannot be divided by the number of processes.
    """
    world_size = distributed.get_world_size()
    if tensor.size(dim) % world_size:
        raise ValueError(f"{tensor.size(dim)} features cannot be divided among {world_size} processes")
    return nn.Parameter(tensor.detach().chunk(world_size, dim)[distributed.get_rank()].clone())


class ColumnParallelLinear(nn.Module):
    """Computes this process's part of a linear layer's outputs.

    Args:
        linear: the whole layer, the same on all processes. Its weight [out, in] is Wᵀ in the paper's notation, so that
            the columns of W are its rows.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = own_part(linear.weight, 0)  # [out / n, in]
        self.bias = own_part(linear.bias, 0)  # [out / n]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [..., in], the same on all processes, to [..., out / n]."""
        return F.linear(copy_to_group(x), self.weight, self.bias)


class RowParallelLinear(nn.Module):
    """Computes a linear layer of inputs that are split over the processes."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = own_part(linear.weight, 1)  # [out, in / n]
        self.bias = nn.Parameter(linear.bias.detach().clone())  # [out]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [..., in / n] to [..., out], the same on all processes."""
        # The bias once, after the sum; before it, it would be added n times.
        return reduce_from_group(F.linear(x, self.weight)) + self.bias
