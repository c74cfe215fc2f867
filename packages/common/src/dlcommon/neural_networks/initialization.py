"""Initial weights of a size that keeps signal and gradient alike in every layer.

One unit of a linear layer sums n = fan_in products. With independent weights of mean 0 and variance v its output has
the variance n·v·E[x²]: the signal keeps its size if v = 1/n. The gradient comes back through the transposed matrix,
and keeps its size if v = 1/fan_out. An activation changes the size as well; the gain makes up for it.

Xavier (Glorot & Bengio 2010, equation 12) takes the mean of the two fans; He (He et al. 2015,
https://arxiv.org/abs/1502.01852, equations 10 and 14) one fan, with the gain √2, since ReLU takes half of E[x²] away.
Each function fills a weight in place, with the numbers that torch.nn.init's draws from the same generator.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import nn

Rule = Callable[..., torch.Tensor]
"""Fills a weight in place: rule(weight, generator=…)."""


def fans(weight: torch.Tensor) -> tuple[int, int]:
    """How many products one output sums, and in how many outputs one input takes part.

    Args:
        weight: [outputs, inputs] of a linear layer, [outputs, inputs, *kernel] of a convolution.

    Raises:
        ValueError: the weight has fewer than two axes.
    """
    if weight.ndim < 2:
        raise ValueError(f"a weight of shape {list(weight.shape)} has no fans; two axes are needed")
    kernel = math.prod(weight.shape[2:])
    return weight.shape[1] * kernel, weight.shape[0] * kernel


def preserving_gain(activation: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """1/√E[φ(z)²] for z ~ N(0, 1), by quadrature: with it, a deep network's signal keeps its size.

    √2 for ReLU and 1 for the identity, as derived by He et al. For tanh it is 1.59, where `torch.nn.init` has 5/3.
    Size 1 is then a fixed point. tanh and SELU pull a signal of another size back to it, ReLU leaves any size as it
    is, and GELU and SiLU, which are nearly 0 for small inputs and nearly ReLU for large ones, push it further away.
    """
    z = torch.linspace(-10, 10, 20_001, dtype=torch.float64)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return torch.trapezoid(activation(z).square() * density, z).item() ** -0.5


@torch.no_grad()
def xavier_normal_(weight: torch.Tensor, gain: float = 1.0, generator: torch.Generator | None = None) -> torch.Tensor:
    """Normal with variance gain² · 2 / (fan_in + fan_out)."""
    return weight.normal_(0, gain * math.sqrt(2 / sum(fans(weight))), generator=generator)


@torch.no_grad()
def xavier_uniform_(weight: torch.Tensor, gain: float = 1.0, generator: torch.Generator | None = None) -> torch.Tensor:
    """Even in ±a with the variance a²/3 = gain² · 2 / (fan_in + fan_out)."""
    limit = gain * math.sqrt(6 / sum(fans(weight)))
    return weight.uniform_(-limit, limit, generator=generator)


@torch.no_grad()
def he_normal_(
    weight: torch.Tensor,
    gain: float = math.sqrt(2),
    fan: Literal["in", "out"] = "in",
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Normal with variance gain² / fan: of the inputs to keep the signal, of the outputs to keep the gradient."""
    return weight.normal_(0, gain / math.sqrt(fans(weight)[fan == "out"]), generator=generator)


@torch.no_grad()
def he_uniform_(
    weight: torch.Tensor,
    gain: float = math.sqrt(2),
    fan: Literal["in", "out"] = "in",
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Even in ±a with the variance a²/3 = gain² / fan."""
    limit = gain * math.sqrt(3 / fans(weight)[fan == "out"])
    return weight.uniform_(-limit, limit, generator=generator)


@torch.no_grad()
def orthogonal_(weight: torch.Tensor, gain: float = 1.0, generator: torch.Generator | None = None) -> torch.Tensor:
    """A random matrix [outputs, the rest] with orthonormal rows or columns, whichever are fewer, times `gain`.

    All singular values are alike, so that a product of many such matrices neither shrinks nor stretches any direction
    (Saxe et al. 2014, https://arxiv.org/abs/1312.6120); of Gaussian matrices only the mean square stays.
    """
    fan_in, _ = fans(weight)
    outputs = weight.shape[0]
    gaussian = weight.new_empty(outputs, fan_in).normal_(generator=generator)
    tall = gaussian if outputs >= fan_in else gaussian.T
    q, r = torch.linalg.qr(tall)
    q = q * r.diagonal().sign()  # QR alone does not draw all rotations alike (Mezzadri 2007)
    return weight.copy_(gain * (q if outputs >= fan_in else q.T).reshape(weight.shape))


def initialize(module: nn.Module, rule: Rule, generator: torch.Generator | None = None) -> None:
    """Fills the weight of every linear and convolutional layer by the rule, and their biases with 0.

        initialize(network, partial(he_normal_, fan="out"))

    Embeddings and normalizations keep what they have.
    """
    draw = partial(rule, generator=generator)
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            draw(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
