"""Floating-point formats bit by bit: what a number becomes in each of them, and the bits that it is stored as.

A format has a sign bit, `exponent_bits` and `mantissa_bits`. An exponent field E of neither all zeros nor all ones
means ±1.mantissa · 2^(E − bias); all zeros mean ±0.mantissa · 2^(1 − bias), the subnormal numbers and 0.
"""

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class FloatFormat:
    """Describes a binary floating-point format.

    Args:
        has_infinity: whether an exponent of all ones means infinity and NaN, as IEEE 754 says. E4M3 spends these bits
            on numbers instead, all but the largest mantissa, which is NaN (Micikevicius et al. 2022,
            https://arxiv.org/abs/2209.05433).
        dtype: torch's type of this format; None if there is none.
    """

    name: str
    exponent_bits: int
    mantissa_bits: int
    has_infinity: bool = True
    dtype: torch.dtype | None = None

    @property
    def bias(self) -> int:
        """What is taken from the exponent field: 2^(exponent_bits − 1) − 1."""
        return int(2 ** (self.exponent_bits - 1)) - 1

    @property
    def epsilon(self) -> float:
        """Distance from 1 to the next number."""
        return float(2.0**-self.mantissa_bits)

    @property
    def smallest_normal(self) -> float:
        """Smallest positive number with all bits of precision."""
        return float(2.0 ** (1 - self.bias))

    @property
    def smallest_subnormal(self) -> float:
        """Smallest positive number: distance between neighbors below `smallest_normal`."""
        return self.smallest_normal * self.epsilon

    @property
    def largest(self) -> float:
        """Largest finite number."""
        if self.has_infinity:
            return float(2.0**self.bias * (2 - self.epsilon))
        return float(2.0 ** (self.bias + 1) * (2 - 2 * self.epsilon))


FP32 = FloatFormat("fp32", 8, 23, dtype=torch.float32)
TF32 = FloatFormat("tf32", 8, 10)
FP16 = FloatFormat("fp16", 5, 10, dtype=torch.float16)
BF16 = FloatFormat("bf16", 8, 7, dtype=torch.bfloat16)
E5M2 = FloatFormat("fp8 e5m2", 5, 2, dtype=torch.float8_e5m2)
E4M3 = FloatFormat("fp8 e4m3", 4, 3, has_infinity=False, dtype=torch.float8_e4m3fn)


def round_to(x: torch.Tensor, target: FloatFormat) -> torch.Tensor:
    """Rounds to the nearest number of a format, to the even one of two that are equally near, as conversions do.

    Args:
        x: [...] of any floating-point dtype.
        target: format to round to.

    Returns:
        float64 [...]; beyond the largest number infinity, or the largest number itself if there is no infinity.
    """
    wide = x.double()
    _, exponent = torch.frexp(wide)  # x = fraction · 2^exponent with fraction in [0.5, 1)
    # Numbers in [2^e, 2^(e+1)) are 2^(e − mantissa_bits) apart; subnormal ones as far as the smallest normal ones.
    lowest = 1 - target.bias
    spacing = torch.ldexp(torch.ones_like(wide), (exponent - 1).clamp(min=lowest) - target.mantissa_bits)
    rounded = torch.round(wide / spacing) * spacing  # torch.round goes to even, as IEEE 754 does
    beyond = torch.copysign(torch.full_like(wide, math.inf if target.has_infinity else target.largest), wide)
    return torch.where(rounded.abs() > target.largest, beyond, rounded)


def bits_of(value: float, target: FloatFormat) -> str:
    """Returns the bits that a number is stored as, after rounding: sign, exponent and mantissa.

    1 in fp16 is '0 01111 0000000000'.

    Raises:
        ValueError: `value` is not a number.
    """
    if math.isnan(value):
        raise ValueError("NaN has many bit patterns; give a number")
    rounded = round_to(torch.tensor(value, dtype=torch.float64), target).item()
    if math.isinf(rounded):
        exponent, mantissa = int(2**target.exponent_bits) - 1, 0
    elif abs(rounded) < target.smallest_normal:
        exponent, mantissa = 0, round(abs(rounded) / target.smallest_subnormal)
    else:
        power = math.frexp(rounded)[1] - 1
        exponent, mantissa = power + target.bias, round((abs(rounded) / 2.0**power - 1) / target.epsilon)
    sign = int(math.copysign(1, value) < 0)
    return f"{sign} {exponent:0{target.exponent_bits}b} {mantissa:0{target.mantissa_bits}b}"
