"""Gradient clipping: by value, by norm, by global norm, by a percentile of past norms, and relative to the weights.

All change the gradients in place, between `backward` and `step`, and skip parameters without a gradient.
"""

import math
from collections import deque
from collections.abc import Iterable

import torch

EPS = 1e-6
"""Added to a norm before it divides, as torch does."""


def gradients_of(parameters: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """Lists the gradients that there are."""
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def clip_by_value(parameters: Iterable[torch.Tensor], limit: float) -> None:
    """Clamps every element of every gradient to −limit … limit, which can change the direction."""
    for gradient in gradients_of(parameters):
        gradient.clamp_(-limit, limit)


def clip_by_norm(parameters: Iterable[torch.Tensor], max_norm: float) -> None:
    """Scales each gradient tensor on its own down to the norm `max_norm` if it is larger."""
    for gradient in gradients_of(parameters):
        gradient.mul_((max_norm / (gradient.norm() + EPS)).clamp(max=1.0))


def global_norm(gradients: Iterable[torch.Tensor], norm_type: float = 2.0) -> torch.Tensor:
    """Computes the norm of all tensors taken together as one vector, a scalar; `norm_type` may be `math.inf`."""
    # The norm of the norms is the norm of all elements.
    norms = torch.stack([torch.linalg.vector_norm(gradient, norm_type) for gradient in gradients])
    norm: torch.Tensor = torch.linalg.vector_norm(norms, norm_type)
    return norm


def clip_by_global_norm(parameters: Iterable[torch.Tensor], max_norm: float, norm_type: float = 2.0) -> torch.Tensor:
    """Scales the gradients, taken together as one vector, down to the norm `max_norm` if it is larger.

    Pascanu et al. 2013 (https://arxiv.org/abs/1211.5063), algorithm 1. A norm that is infinite or not a number makes
    gradients that are not numbers: clipping does not repair them.

    Returns:
        Their norm before clipping, a scalar.
    """
    gradients = gradients_of(parameters)
    norm = global_norm(gradients, norm_type)
    factor = (max_norm / (norm + EPS)).clamp(max=1.0)  # one factor for all, so that the direction stays
    for gradient in gradients:
        gradient.mul_(factor)
    return norm


def unit_norm(tensor: torch.Tensor) -> torch.Tensor:
    """Computes the norm of each unit: of a row [out, 1], of a kernel [out, 1, 1, 1]; of a vector as a whole."""
    axes = tuple(range(1, tensor.dim())) or None
    norm: torch.Tensor = torch.linalg.vector_norm(tensor, dim=axes, keepdim=tensor.dim() > 1)
    return norm


def clip_adaptively(parameters: Iterable[torch.Tensor], clip_factor: float = 0.01, eps: float = 1e-3) -> None:
    """Scales each unit's gradient down to `clip_factor` times the norm of its weights (AGC).

    Brock et al. 2021 (https://arxiv.org/abs/2102.06171), equation 3. A unit is what one output is computed with; the
    paper leaves the last layer unclipped.

    Args:
        parameters: weights [out, …] and biases [out].
        clip_factor: λ.
        eps: least norm of weights that counts, so that weights of zero can move.
    """
    for parameter in parameters:
        if parameter.grad is not None:
            allowed = clip_factor * unit_norm(parameter.detach()).clamp(min=eps)
            parameter.grad.mul_((allowed / unit_norm(parameter.grad).clamp(min=EPS)).clamp(max=1.0))


class PercentileClipping:
    """Clips the global norm to a percentile of the norms so far (AutoClip, https://arxiv.org/abs/2007.14469).

    A norm that is not finite is not remembered.

    Args:
        percentile: in 0 … 100; the paper takes 10, so that nine steps in ten are clipped.
        window: how many recent norms are remembered; all by default.

    Raises:
        ValueError: the percentile is out of range.
    """

    def __init__(self, percentile: float = 10.0, window: int | None = None) -> None:
        if not 0 <= percentile <= 100:
            raise ValueError(f"percentile must lie in 0 … 100, not {percentile}")
        self.percentile = percentile
        self.norms: deque[float] = deque(maxlen=window)

    def __call__(self, parameters: Iterable[torch.Tensor]) -> torch.Tensor:
        """Remembers the norm, and clips to the percentile, which this norm takes part in.

        Returns:
            The norm before clipping, a scalar.
        """
        parameters = list(parameters)
        norm = global_norm(gradients_of(parameters)).item()
        if math.isfinite(norm):
            self.norms.append(norm)
        past = torch.tensor(list(self.norms), dtype=torch.float64)
        threshold = past.quantile(self.percentile / 100).item() if self.norms else math.inf
        return clip_by_global_norm(parameters, threshold)
