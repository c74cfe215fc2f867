"""Rotary position embedding, RoPE (Su et al. 2021, https://arxiv.org/abs/2104.09864, equation 34)."""

import torch


def rotary_frequencies(head_dim: int, theta: float = 10_000.0, device: torch.device | None = None) -> torch.Tensor:
    """Computes theta^(−2i / head_dim) for i = 0 … head_dim / 2 − 1, in radians per token: float32 [head_dim / 2].

    Args:
        head_dim: width of one attention head; even.
        theta: base of the geometric series (`rope_theta` in transformers).
        device: where the result is created.

    Raises:
        ValueError: `head_dim` is odd.
    """
    if head_dim % 2:
        raise ValueError(f"rotary embedding turns pairs of coordinates; head_dim must be even, not {head_dim}")
    # The first pair turns by one radian per token, the last almost not at all: near and far are both told apart.
    exponents = -torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim
    return theta**exponents


def rotary_cos_sin(
    positions: torch.Tensor, head_dim: int, theta: float = 10_000.0, frequencies: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the cosines and sines of the angles position · frequency.

    Args:
        positions: [..., tokens], counted from 0.
        head_dim: width of one attention head; even.
        theta: base of the geometric series of frequencies (`rope_theta` in transformers).
        frequencies: [head_dim / 2], in place of `rotary_frequencies(head_dim, theta)`.

    Returns:
        Two float32 tensors [..., tokens, head_dim / 2].

    Raises:
        ValueError: `head_dim` is odd.
    """
    if frequencies is None:
        frequencies = rotary_frequencies(head_dim, theta, positions.device)
    # Angles stay in float32 under autocast: bfloat16 cannot tell position 256 from 257.
    angles = positions.to(torch.float32)[..., None] * frequencies  # [..., tokens, head_dim / 2]
    return angles.cos(), angles.sin()


def apply_rotary_emb(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotates each pair of coordinates by its position's angle, so that dot products depend on distances only.

    The pairs are (i, i + head_dim / 2), as in GPT-NeoX and Llama's port to transformers, not (2i, 2i + 1) as in the
    paper: the two differ by a fixed order of coordinates, which the projection before learns anyway.

    Args:
        x: queries or keys, [batch, heads, tokens, head_dim].
        cos: [tokens, head_dim / 2], or [batch, 1, tokens, head_dim / 2] where positions differ within the batch.
        sin: shaped like `cos`.

    Returns:
        The rotated `x`, [batch, heads, tokens, head_dim].
    """
    x1, x2 = x.chunk(2, dim=-1)  # each [batch, heads, tokens, head_dim / 2]
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    # The rotation matrix [[cos, −sin], [sin, cos]], applied to all pairs (x1, x2) at once.
    return torch.cat((x1 * cos - x2 * sin, x1 * sin + x2 * cos), dim=-1)
