"""Batch normalization, forward and backward by hand (Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167).

x is [batch, features, …]: each feature is normalized over the batch and all further axes (positions, pixels).
"""

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.autograd.function import once_differentiable


class Normalized(NamedTuple):
    """What the forward pass computes. The statistics keep all axes, so that they broadcast against x."""

    values: torch.Tensor
    """x̂ = (x − μ)/σ, like x."""
    mean: torch.Tensor
    """μ, [1, features, 1, …]."""
    variance: torch.Tensor
    """Biased: divided by the number of values. [1, features, 1, …]."""
    scale: torch.Tensor
    """1/σ = 1/√(variance + ε), [1, features, 1, …]."""


def _others(x: torch.Tensor) -> tuple[int, ...]:
    return tuple(axis for axis in range(x.ndim) if axis != 1)


def _along_features(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return values.view(1, -1, *[1] * (x.ndim - 2))


def normalize(x: torch.Tensor, epsilon: float = 1e-5) -> Normalized:
    """Algorithm 1 of the paper, before the learnt scale and shift.

    Raises:
        ValueError: x has fewer than two axes, or one value a feature, whose variance would be 0.
    """
    if x.ndim < 2 or x.numel() <= x.shape[1]:
        raise ValueError(f"x must be [batch, features, …] with two values a feature or more, not {list(x.shape)}")
    mean = x.mean(_others(x), keepdim=True)
    centred = x - mean
    variance = centred.square().mean(_others(x), keepdim=True)
    scale = torch.rsqrt(variance + epsilon)
    return Normalized(centred * scale, mean, variance, scale)


def normalize_backward(gradient: torch.Tensor, values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """∂L/∂x from ∂L/∂x̂ = g:  (g − mean(g) − x̂ · mean(g·x̂)) / σ, the means over batch and positions.

    Moving all of x, or stretching it, changes nothing in x̂; so the gradient loses its part along 1 and along x̂.

    Args:
        gradient: ∂L/∂x̂, like x.
        values: x̂.
        scale: 1/σ.
    """
    axes = _others(values)
    along_values = (gradient * values).mean(axes, keepdim=True)
    return (gradient - gradient.mean(axes, keepdim=True) - values * along_values) * scale


class _BatchNorm(torch.autograd.Function):
    """weight · x̂ + bias; also gives out the batch's mean and variance, [features], which carry no gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, epsilon: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        values, mean, variance, scale = normalize(x, epsilon)
        ctx.save_for_backward(values, scale, weight)
        mean, variance = mean.flatten(), variance.flatten()
        ctx.mark_non_differentiable(mean, variance)
        return _along_features(weight, x) * values + _along_features(bias, x), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        values, scale, weight = ctx.saved_tensors
        axes = _others(values)
        by_x = normalize_backward(gradient * _along_features(weight, values), values, scale)
        return by_x, (gradient * values).sum(axes), gradient.sum(axes), None


class BatchNorm(nn.Module):
    """Batch norm over [batch, features] or [batch, features, …], with `torch.nn.BatchNorm1d/2d/3d`'s state.

    In training x is normalized by its own batch, so that one sample's output depends on the others; running averages
    of mean and variance are kept on the side. In evaluation those are used, and each sample stands alone.

    Args:
        momentum: share of the newest batch in the running averages.
        epsilon: added to the variance.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor
    num_batches_tracked: torch.Tensor

    def __init__(self, features: int, epsilon: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.epsilon, self.momentum = epsilon, momentum
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, features, …] to the same.

        Raises:
            ValueError: in training, with one value a feature.
        """
        if not self.training:
            scale, shift = self.scale_and_shift()
            return x * _along_features(scale, x) + _along_features(shift, x)
        y, mean, variance = _BatchNorm.apply(x, self.weight, self.bias, self.epsilon)
        values = x.numel() // x.shape[1]
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            # The running variance is the unbiased one, as in the paper and torch; the batch's own is not.
            self.running_var.lerp_(variance * values / (values - 1), self.momentum)
            self.num_batches_tracked += 1
        return y

    def scale_and_shift(self) -> tuple[torch.Tensor, torch.Tensor]:
        """a and b, [features], of what the layer is in evaluation: a·x + b."""
        scale = self.weight * torch.rsqrt(self.running_var + self.epsilon)
        return scale, self.bias - self.running_mean * scale


@torch.no_grad()
def folded(layer: nn.Linear, norm: BatchNorm) -> nn.Linear:
    """One linear layer that is `norm(layer(x))` in evaluation: exporters do this, and the norm then costs nothing."""
    scale, shift = norm.scale_and_shift()
    whole = nn.Linear(layer.in_features, layer.out_features, device=layer.weight.device, dtype=layer.weight.dtype)
    whole.weight.copy_(scale[:, None] * layer.weight)
    whole.bias.copy_(shift if layer.bias is None else shift + scale * layer.bias)
    return whole
