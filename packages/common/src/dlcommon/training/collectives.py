"""Sums over a process group that gradients pass through.

A sum over processes has two places: what goes in, and what comes out on every process. Which of the two needs a sum in
the backward pass depends on where the copies are. All functions are called by all processes of the group, in one order.
"""

from typing import Any

import torch
from torch import distributed


def _summed(x: torch.Tensor) -> torch.Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return _summed(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return _summed(grad)


class _Copy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return _summed(grad)


class _Reduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return _summed(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad


def all_reduce_sum(x: torch.Tensor) -> torch.Tensor:
    """Returns the sum of all processes' x, each of which goes on with it in its own way, to a loss of its own.

    The gradient of the sum of all losses is the sum of what comes back to each process.
    """
    result: torch.Tensor = _Sum.apply(x)
    return result


def copy_to_group(x: torch.Tensor) -> torch.Tensor:
    """Returns x, which is the same on all processes, for each to use in a different part of one computation.

    Backward sums the parts' gradients. The operator f of Megatron-LM (Shoeybi et al. 2019, section 3).
    """
    result: torch.Tensor = _Copy.apply(x)
    return result


def reduce_from_group(x: torch.Tensor) -> torch.Tensor:
    """Returns the sum of all processes' x, with which all go on in the same way, to one and the same loss.

    Backward passes the gradient on, which is the same everywhere. The operator g of Megatron-LM.
    """
    result: torch.Tensor = _Reduce.apply(x)
    return result
