"""Initial weights whose scale keeps the signal and the gradient of equal size in every layer.

A unit of a linear layer sums n = fan_in products. With independent weights of mean 0 and variance v its output has the
variance n·v·E[x²]: the signal keeps its size if v = 1/n. The gradient comes back through the transposed matrix, and
keeps its size if v = 1/fan_out. An activation changes the size as well; the gain makes up for it.

Xavier initialization (Glorot & Bengio 2010, equation 12) takes the mean of the two fans; Kaiming or He initialization
(He et al. 2015, https://arxiv.org/abs/1502.01852, equations 10 and 14) one of them, with the gain √2, since ReLU halves
E[x²]. Each function fills a weight in place, with the numbers that torch.nn.init's draws from the same generator.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import nn

InitFn = Callable[..., torch.Tensor]
"""Fills a weight in place: init_fn(weight, generator=…)."""


def calculate_fan_in_and_fan_out(weight: torch.Tensor) -> tuple[int, int]:
    """Counts the products that one output sums, and the outputs that one input takes part in.

    Args:
        weight: [out_features, in_features] of a linear layer, [out_channels, in_channels, *kernel] of a convolution.

    Raises:
        ValueError: the weight has fewer than two axes.
    """
    if weight.ndim < 2:
        raise ValueError(f"a weight of shape {list(weight.shape)} has no fans; two axes are needed")
    receptive_field = math.prod(weight.shape[2:])  # 1 for a linear layer
    return weight.shape[1] * receptive_field, weight.shape[0] * receptive_field


def calculate_gain(activation: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """Computes 1/√E[φ(z)²] for z ~ N(0, 1), with which a deep network's signal keeps its size.

    It is √2 for ReLU and 1 for the identity, as derived by He et al. For tanh it is 1.59, where `torch.nn.init` has
    5/3. Size 1 is then a fixed point: tanh and SELU pull a signal of another size back to it, ReLU leaves any size as
    it is, and GELU and SiLU, which are nearly 0 for small inputs and nearly ReLU for large ones, push it further away.
    """
    # The expectation by the trapezoidal rule; beyond |z| = 10 the density is below 1e-22.
    z = torch.linspace(-10, 10, 20_001, dtype=torch.float64)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return float(torch.trapezoid(activation(z).square() * density, z).item() ** -0.5)


@torch.no_grad()
def xavier_normal_(weight: torch.Tensor, gain: float = 1.0, generator: torch.Generator | None = None) -> torch.Tensor:
    """Draws from a normal distribution of variance gain² · 2 / (fan_in + fan_out)."""
    return weight.normal_(0, gain * math.sqrt(2 / sum(calculate_fan_in_and_fan_out(weight))), generator=generator)


@torch.no_grad()
def xavier_uniform_(weight: torch.Tensor, gain: float = 1.0, generator: torch.Generator | None = None) -> torch.Tensor:
    """Draws uniformly from ±a, whose variance is a²/3 = gain² · 2 / (fan_in + fan_out)."""
    bound = gain * math.sqrt(6 / sum(calculate_fan_in_and_fan_out(weight)))
    return weight.uniform_(-bound, bound, generator=generator)


@torch.no_grad()
def kaiming_normal_(
    weight: torch.Tensor,
    gain: float = math.sqrt(2),
    mode: Literal["fan_in", "fan_out"] = "fan_in",
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Draws from a normal distribution of variance gain² / fan.

    Args:
        weight: filled in place.
        gain: √2 for ReLU; see `calculate_gain` for others.
        mode: "fan_in" preserves the signal, "fan_out" the gradient.
        generator: of the draws.
    """
    return weight.normal_(0, gain / math.sqrt(_fan(weight, mode)), generator=generator)


@torch.no_grad()
def kaiming_uniform_(
    weight: torch.Tensor,
    gain: float = math.sqrt(2),
    mode: Literal["fan_in", "fan_out"] = "fan_in",
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Draws uniformly from ±a, whose variance is a²/3 = gain² / fan; arguments as of `kaiming_normal_`."""
    bound = gain * math.sqrt(3 / _fan(weight, mode))
    return weight.uniform_(-bound, bound, generator=generator)


@torch.no_grad()
def orthogonal_(weight: torch.Tensor, gain: float = 1.0, generator: torch.Generator | None = None) -> torch.Tensor:
    """Draws a matrix [out_features, the rest] with orthonormal rows or columns, whichever are fewer, times `gain`.

    All singular values are equal, so that a product of many such matrices neither shrinks nor stretches any direction
    (Saxe et al. 2014, https://arxiv.org/abs/1312.6120); of Gaussian matrices only the mean square stays.
    """
    fan_in, _ = calculate_fan_in_and_fan_out(weight)
    rows = weight.shape[0]
    gaussian = weight.new_empty(rows, fan_in).normal_(generator=generator)
    tall = gaussian if rows >= fan_in else gaussian.T  # QR makes the columns of a tall matrix orthonormal
    q, r = torch.linalg.qr(tall)
    q = q * r.diagonal().sign()  # QR alone does not draw all rotations with equal probability (Mezzadri 2007)
    return weight.copy_(gain * (q if rows >= fan_in else q.T).reshape(weight.shape))


def init_weights(module: nn.Module, init_fn: InitFn, generator: torch.Generator | None = None) -> None:
    """Fills the weights of every linear and convolutional layer by `init_fn`, and their biases with 0.

        init_weights(network, partial(kaiming_normal_, mode="fan_out"))

    Embeddings and normalizations stay as they are.
    """
    draw = partial(init_fn, generator=generator)
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            draw(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _fan(weight: torch.Tensor, mode: Literal["fan_in", "fan_out"]) -> int:
    fan_in, fan_out = calculate_fan_in_and_fan_out(weight)
    return fan_in if mode == "fan_in" else fan_out
