"""Batch normalization, forward and backward by hand (Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167).

x is [batch, features, …]: each feature is normalized over the batch and all further axes (positions, pixels).
"""

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.autograd.function import once_differentiable


class Normalized(NamedTuple):
    """Holds the result of `normalize`. The statistics keep all axes, so that they broadcast against x."""

    x_hat: torch.Tensor
    """(x − μ)/σ, shaped like x."""
    mean: torch.Tensor
    """μ, [1, features, 1, …]."""
    var: torch.Tensor
    """Biased: divided by the number of values. [1, features, 1, …]."""
    inv_std: torch.Tensor
    """1/σ = 1/√(var + ε), [1, features, 1, …]."""


def _reduced_axes(x: torch.Tensor) -> tuple[int, ...]:
    """Lists all axes but that of the features."""
    return tuple(axis for axis in range(x.ndim) if axis != 1)


def _broadcast(per_feature: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Reshapes [features] to [1, features, 1, …], with as many axes as x."""
    return per_feature.view(1, -1, *[1] * (x.ndim - 2))


def normalize(x: torch.Tensor, eps: float = 1e-5) -> Normalized:
    """Normalizes each feature to mean 0 and variance 1: algorithm 1 of the paper, before the learned scale and shift.

    Raises:
        ValueError: x has fewer than two axes, or one value per feature, whose variance would be 0.
    """
    if x.ndim < 2 or x.numel() <= x.shape[1]:
        raise ValueError(f"x must be [batch, features, …] with at least two values per feature, not {list(x.shape)}")
    mean = x.mean(_reduced_axes(x), keepdim=True)
    centered = x - mean
    var = centered.square().mean(_reduced_axes(x), keepdim=True)
    inv_std = torch.rsqrt(var + eps)
    return Normalized(centered * inv_std, mean, var, inv_std)


def normalize_backward(grad_x_hat: torch.Tensor, x_hat: torch.Tensor, inv_std: torch.Tensor) -> torch.Tensor:
    """Computes ∂L/∂x = (g − mean(g) − x̂ · mean(g·x̂)) / σ, with g = ∂L/∂x̂ and the means over batch and positions.

    Shifting or scaling all of x changes nothing in x̂; so the gradient loses its components along 1 and along x̂.

    Args:
        grad_x_hat: ∂L/∂x̂, shaped like x.
        x_hat: as `normalize` returned it.
        inv_std: as `normalize` returned it.
    """
    axes = _reduced_axes(x_hat)
    along_ones = grad_x_hat.mean(axes, keepdim=True)  # through μ
    along_x_hat = (grad_x_hat * x_hat).mean(axes, keepdim=True)  # through σ
    return (grad_x_hat - along_ones - x_hat * along_x_hat) * inv_std


class BatchNormFunction(torch.autograd.Function):
    """Computes weight · x̂ + bias; also returns the batch's mean and variance, [features], which carry no gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x_hat, mean, var, inv_std = normalize(x, eps)
        ctx.save_for_backward(x_hat, inv_std, weight)  # not x: the backward pass needs x̂ and 1/σ only
        mean, var = mean.flatten(), var.flatten()
        ctx.mark_non_differentiable(mean, var)
        return _broadcast(weight, x) * x_hat + _broadcast(bias, x), mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        x_hat, inv_std, weight = ctx.saved_tensors
        axes = _reduced_axes(x_hat)
        grad_x = normalize_backward(grad_output * _broadcast(weight, x_hat), x_hat, inv_std)
        return grad_x, (grad_output * x_hat).sum(axes), grad_output.sum(axes), None


class BatchNorm(nn.Module):
    """Applies batch norm to [batch, features, …], with the state dict of `torch.nn.BatchNorm1d`, `2d` and `3d`.

    In training mode x is normalized by its own batch, so that one sample's output depends on the others; running
    averages of mean and variance are kept on the side. In evaluation mode those are used, and each sample stands alone.

    Args:
        num_features: size of axis 1.
        eps: added to the variance.
        momentum: weight of the newest batch in the running averages.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor
    num_batches_tracked: torch.Tensor

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, features, …] to the same.

        Raises:
            ValueError: there is one value per feature, in training mode.
        """
        if not self.training:
            scale, shift = self.scale_and_shift()
            return x * _broadcast(scale, x) + _broadcast(shift, x)
        output: torch.Tensor
        output, mean, var = BatchNormFunction.apply(x, self.weight, self.bias, self.eps)
        count = x.numel() // x.shape[1]  # values per feature
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            # The running variance is the unbiased one, as in the paper and torch; the batch's own is not.
            self.running_var.lerp_(var * count / (count - 1), self.momentum)
            self.num_batches_tracked += 1
        return output

    def scale_and_shift(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns a and b, [features], of the affine map a·x + b that the layer is in evaluation mode."""
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale


@torch.no_grad()
def fuse_linear_bn(linear: nn.Linear, bn: BatchNorm) -> nn.Linear:
    """Fuses a batch norm into the linear layer before it: equals `bn(linear(x))` in evaluation mode.

    Exporters do the same, after which batch norm costs nothing.
    """
    scale, shift = bn.scale_and_shift()
    fused = nn.Linear(linear.in_features, linear.out_features, device=linear.weight.device, dtype=linear.weight.dtype)
    fused.weight.copy_(scale[:, None] * linear.weight)
    fused.bias.copy_(shift if linear.bias is None else shift + scale * linear.bias)
    return fused
