"""Uniform quantization of tensors to 2 to 8 bits: absmax and zero-point, per tensor, per channel or per group.

A group of numbers shares one scale, and with zero-point quantization one zero point: x ≈ scale · (code − zero_point).
A matrix [out_features, in_features] is one group ("tensor"), a group per output ("channel"), or is cut along its rows
into groups of so many neighbors (an integer). Absmax is also called symmetric, zero-point asymmetric or affine
(Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 2.1; Dettmers et al. 2022,
https://arxiv.org/abs/2208.07339, section 2).
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch

Granularity = Literal["tensor", "channel"] | int
"""What shares a scale: the tensor, each row, or each group of this many neighbors in a row."""


@dataclass(frozen=True)
class QuantizedTensor:
    """Holds integer codes with the scales that turn them back into numbers."""

    codes: torch.Tensor
    """int8 for absmax, uint8 for zero-point, [groups, group_size]; a byte each here, `bits` of it used."""
    scale: torch.Tensor
    """[groups, 1]."""
    zero_point: torch.Tensor | None
    """uint8 [groups, 1], the code that means 0; `None` where it is code 0."""
    shape: torch.Size
    bits: int

    def dequantize(self) -> torch.Tensor:
        """Computes scale · (code − zero_point), in the dtype of the scale and the original shape."""
        codes = self.codes.to(self.scale.dtype)
        if self.zero_point is not None:
            codes = codes - self.zero_point.to(self.scale.dtype)
        return (self.scale * codes).view(self.shape)

    def bits_per_weight(self, scale_bits: int = 16) -> float:
        """Counts the bits that a number costs once the codes are packed, with its share of scale and zero point."""
        overhead = scale_bits + (0 if self.zero_point is None else self.bits)
        return self.bits + overhead * self.scale.numel() / self.codes.numel()


def as_groups(x: torch.Tensor, granularity: Granularity) -> torch.Tensor:
    """Views a tensor as [groups, group_size], where each row is to share a scale.

    Raises:
        ValueError: the rows of `x` cannot be cut into groups of that size.
    """
    if granularity == "tensor":
        return x.reshape(1, -1)
    if granularity == "channel":
        return x.reshape(-1, x.size(-1))
    if granularity < 1 or x.size(-1) % granularity:
        raise ValueError(f"rows of {x.size(-1)} cannot be cut into groups of {granularity}; choose a divisor")
    return x.reshape(-1, granularity)


def absmax_scale(groups: torch.Tensor, bits: int) -> torch.Tensor:
    """Computes the scale that maps the largest magnitude of each group to the largest code, 2^(bits − 1) − 1.

    Args:
        groups: [groups, group_size].
        bits: 2 to 8; codes are −largest … largest, so that one of the 2^bits is unused and 0 stays 0.

    Returns:
        [groups, 1]; 1 for a group of zeros.

    Raises:
        ValueError: `bits` is outside 2 to 8, or a number is infinite or not a number.
    """
    _require(groups, bits)
    scale = groups.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
    return torch.where(scale > 0, scale, 1.0)


def quantize_absmax(x: torch.Tensor, bits: int, granularity: Granularity = "tensor") -> QuantizedTensor:
    """Rounds each number to the nearest multiple of its group's `absmax_scale`.

    Raises:
        ValueError: as of `as_groups` and `absmax_scale`.
    """
    groups = as_groups(x, granularity)
    scale = absmax_scale(groups, bits)
    codes = (groups / scale).round().to(torch.int8)  # nothing to clamp: |x| / scale is at most the largest code
    return QuantizedTensor(codes, scale, None, x.shape, bits)


def quantize_zero_point(x: torch.Tensor, bits: int, granularity: Granularity = "tensor") -> QuantizedTensor:
    """Spreads the codes 0 … 2^bits − 1 over each group's range from its minimum to its maximum.

    The range is widened to include 0, which then has a code of its own, the zero point: padding, ReLU's zeros and
    pruned weights stay exactly 0.

    Raises:
        ValueError: as of `as_groups`; `bits` is outside 2 to 8, or a number is infinite or not a number.
    """
    groups = as_groups(x, granularity)
    _require(groups, bits)
    low, high = groups.amin(dim=1, keepdim=True).clamp(max=0), groups.amax(dim=1, keepdim=True).clamp(min=0)
    largest = 2**bits - 1
    scale = (high - low) / largest
    scale = torch.where(scale > 0, scale, 1.0)
    zero_point = (-low / scale).round()  # [groups, 1]
    codes = ((groups / scale).round() + zero_point).clamp(0, largest)
    return QuantizedTensor(codes.to(torch.uint8), scale, zero_point.to(torch.uint8), x.shape, bits)


def _require(groups: torch.Tensor, bits: int) -> None:
    if not 2 <= bits <= 8:
        raise ValueError(f"bits must be 2 to 8, not {bits}")
    if not bool(groups.isfinite().all()):
        raise ValueError("cannot quantize numbers that are infinite or NaN; find out where they come from first")


class FakeQuantize(torch.autograd.Function):
    """Implements `fake_quantize`."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, low: int, high: int
    ) -> torch.Tensor:
        """Rounds, and notes which numbers are not clamped."""
        codes = (x / scale).round() + zero_point
        ctx.save_for_backward((codes >= low) & (codes <= high))
        return scale * (codes.clamp(low, high) - zero_point)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Computes the gradient of `x` from that of the output; the other four arguments get `None`."""
        (inside,) = ctx.saved_tensors
        return upstream[0] * inside, None, None, None, None


def fake_quantize(x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, low: int, high: int) -> torch.Tensor:
    """Quantizes and dequantizes in one step, with a gradient, so that a network can be trained through it.

    Rounding has a derivative of 0 almost everywhere. The straight-through estimator (Bengio et al. 2013,
    https://arxiv.org/abs/1308.3432) takes it as 1, and as 0 for numbers that are clamped. Equals
    `torch.fake_quantize_per_channel_affine`.

    Args:
        x: [...].
        scale: broadcastable to `x`, as is `zero_point`.
        zero_point: the code that means 0.
        low: smallest code.
        high: largest code.

    Returns:
        [...], multiples of the scale.
    """
    result: torch.Tensor = FakeQuantize.apply(x, scale, zero_point, low, high)
    return result
