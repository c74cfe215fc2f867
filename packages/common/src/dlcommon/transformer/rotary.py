"""Rotary position embedding (Su et al. 2021, https://arxiv.org/abs/2104.09864, equation 34)."""

import torch


def rotary_angles(positions: torch.Tensor, dim: int, base: float = 10_000.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines [..., tokens, dim / 2] of the angles position · base^(−2i / dim).

    Args:
        positions: [..., tokens], counted from 0.
        dim: of one head; even.

    Raises:
        ValueError: `dim` is odd.
    """
    if dim % 2:
        raise ValueError(f"rotary embedding turns pairs of coordinates; dim must be even, not {dim}")
    frequencies = base ** (-torch.arange(0, dim, 2, device=positions.device, dtype=torch.float32) / dim)
    angles = positions.to(torch.float32)[..., None] * frequencies
    return angles.cos(), angles.sin()


def rotate(x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Turns each pair of coordinates by its position's angle, so that dot products see only distances.

    The pairs are (i, i + dim / 2), as in GPT-NeoX and Llama's port to transformers, not (2i, 2i + 1) as in the paper:
    the two differ by a fixed order of coordinates, which the projection before learns anyway.

    Args:
        x: [batch, heads, tokens, dim].
        cosines: [tokens, dim / 2], or [batch, 1, tokens, dim / 2] where items stand at different places; as `sines`.
    """
    first, second = x.chunk(2, dim=-1)
    cosines, sines = cosines.to(x.dtype), sines.to(x.dtype)
    return torch.cat((first * cosines - second * sines, first * sines + second * cosines), dim=-1)
