"""NormalFloat-4 and double quantization, as in QLoRA (Dettmers et al. 2023, https://arxiv.org/abs/2305.14314).

Numbers are quantized block by block: each block is divided by its largest magnitude, and each number is replaced by
the index of the nearest of a few fixed levels in [−1, 1]. NF4's 16 levels are quantiles of the normal distribution,
since that is what weights are close to; two indices share a byte. Levels, bytes and scales are those of bitsandbytes.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch.nn import functional as F

SCALE_BLOCK = 256
"""How many scales share one scale of their own in double quantization."""


@cache
def nf4_levels() -> torch.Tensor:
    """Computes NF4's levels, [16] in float32, from −1 to 1 (QLoRA, section 3 and appendix E).

    Eight are quantiles of the negative half of the normal distribution, nine of the positive one, with equal
    probability between neighbors; the zero in which they meet is one level, so that 0 is exact.
    """
    tail = (1 / 32 + 1 / 30) / 2  # probability beyond the outermost level, averaged over both halves
    outermost = round(1 - tail, 7)  # 0.9677083, the digits that bitsandbytes computes with

    def half(count: int) -> torch.Tensor:
        probabilities = torch.linspace(outermost, 0.5, count)[:-1]  # without the median, 0
        quantiles: torch.Tensor = torch.special.ndtri(probabilities.double())
        return quantiles.float()

    levels = torch.cat((-half(8), torch.zeros(1), half(9))).sort().values
    return levels / levels.max()


@cache
def dynamic_levels() -> torch.Tensor:
    """Computes the 256 levels of the dynamic 8-bit type (Dettmers 2015, https://arxiv.org/abs/1511.04561).

    For each of seven powers of ten from 10⁻⁶ to 1 there are levels between a tenth of it and itself, twice as many for
    each larger power: large numbers get many digits and small ones few, but none is lost.
    """
    levels = [0.0, 1.0]
    for power in range(7):
        edges = torch.linspace(0.1, 1, 2**power + 1)
        centers = (10.0 ** (power - 6) * (edges[:-1] + edges[1:]) / 2).tolist()
        levels += centers + [-center for center in centers]
    return torch.tensor(sorted(levels))


def quantize_blockwise(x: torch.Tensor, levels: torch.Tensor, block_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Replaces each number by the index of the nearest level, after dividing its block by the block's absmax.

    Args:
        x: [...], read row by row; the last block may be shorter.
        levels: [num_levels] in [−1, 1], ascending, at most 256.
        block_size: how many neighbors share a scale.

    Returns:
        The indices, uint8 [numbers], and the scales, float32 [blocks].

    Raises:
        ValueError: a number is infinite or not a number.
    """
    flat = x.flatten().float()
    if not bool(flat.isfinite().all()):
        raise ValueError("cannot quantize numbers that are infinite or NaN; find out where they come from first")
    blocks = F.pad(flat, (0, -flat.numel() % block_size)).view(-1, block_size)
    absmax = blocks.abs().amax(dim=1)  # [blocks]
    normalized = blocks * (1 / absmax.clamp(min=1e-38))[:, None]  # in [−1, 1]; zeros in a block of zeros
    # The index of a number is how many midpoints between neighboring levels lie below it.
    indices = torch.bucketize(normalized, (levels[:-1] + levels[1:]) / 2)
    return indices.flatten()[: flat.numel()].to(torch.uint8), absmax


def dequantize_blockwise(
    indices: torch.Tensor, absmax: torch.Tensor, levels: torch.Tensor, block_size: int
) -> torch.Tensor:
    """Computes level · absmax of each number's block, float32 [numbers]; arguments as of `quantize_blockwise`."""
    values = levels[indices.long()]
    return values * absmax.repeat_interleave(block_size)[: values.numel()]


@dataclass(frozen=True)
class QuantizedScales:
    """Holds the scales of blocks in 8 bits each: their mean is taken off, the rest is quantized block by block."""

    indices: torch.Tensor
    """uint8 [blocks], levels of `dynamic_levels()`."""
    absmax: torch.Tensor
    """float32 [blocks / 256], rounded up."""
    mean: torch.Tensor
    """float32 []."""

    def dequantize(self) -> torch.Tensor:
        """Computes the scales, float32 [blocks]."""
        return dequantize_blockwise(self.indices, self.absmax, dynamic_levels(), SCALE_BLOCK) + self.mean


@dataclass(frozen=True)
class NF4Tensor:
    """Holds a tensor in NF4: `packed` has two indices to a byte, the first in its upper half."""

    packed: torch.Tensor
    """uint8 [numbers / 2], rounded up."""
    scales: torch.Tensor | QuantizedScales
    """float32 [blocks], or these in 8 bits."""
    shape: torch.Size
    block_size: int

    def dequantize(self) -> torch.Tensor:
        """Computes the tensor, float32 in its original shape."""
        indices = torch.stack((self.packed >> 4, self.packed & 0xF), dim=1).flatten()[: self.shape.numel()]
        absmax = self.scales if isinstance(self.scales, torch.Tensor) else self.scales.dequantize()
        return dequantize_blockwise(indices, absmax, nf4_levels(), self.block_size).view(self.shape)

    def num_bytes(self) -> int:
        """Counts the bytes of indices and scales as they are held."""
        if isinstance(self.scales, torch.Tensor):
            return self.packed.nbytes + self.scales.nbytes
        return self.packed.nbytes + self.scales.indices.nbytes + self.scales.absmax.nbytes + self.scales.mean.nbytes


def quantize_nf4(x: torch.Tensor, block_size: int = 64, double_quantization: bool = False) -> NF4Tensor:
    """Quantizes a tensor to NF4.

    Args:
        x: [...] of any floating-point dtype.
        block_size: how many neighbors share a scale.
        double_quantization: whether the scales are quantized to 8 bits in turn, in blocks of 256: a weight then costs
            4 + 8/64 + 32/(64 · 256) = 4.127 bits instead of 4 + 32/64 = 4.5.

    Raises:
        ValueError: a number is infinite or not a number.
    """
    indices, absmax = quantize_blockwise(x, nf4_levels(), block_size)
    zero = int(nf4_levels().abs().argmin())
    pairs = F.pad(indices, (0, indices.numel() % 2), value=zero).view(-1, 2)
    packed = (pairs[:, 0] << 4) | pairs[:, 1]
    if not double_quantization:
        return NF4Tensor(packed, absmax, x.shape, block_size)
    mean = absmax.mean()  # scales are positive: without their mean taken off, half of the levels would be unused
    scales = QuantizedScales(*quantize_blockwise(absmax - mean, dynamic_levels(), SCALE_BLOCK), mean)
    return NF4Tensor(packed, scales, x.shape, block_size)
