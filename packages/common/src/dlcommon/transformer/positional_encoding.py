"""Positional encodings: how attention, which by itself ignores the order of tokens, gets to know it.

Added to the features: `sinusoidal_encoding` and `LearnedPositionalEmbedding`. Added to the logits of attention, as a
float mask: `alibi_bias` and `RelativePositionBias`. (Rotary embedding, which turns queries and keys, is in
`rotary_embedding`.)
"""

import math

import torch
from torch import nn

from dlcommon.transformer.rotary_embedding import rotary_cos_sin


def sinusoidal_encoding(positions: torch.Tensor, dim: int, theta: float = 10_000.0) -> torch.Tensor:
    """Computes sines and cosines of the positions at dim / 2 frequencies (Vaswani et al. 2017, section 3.5).

    PE(p, 2i) = sin(p · theta^(−2i / dim)) and PE(p, 2i + 1) = cos(p · theta^(−2i / dim)): the angles of rotary
    embedding. Sines and cosines alternate, as in the paper; BART's family in transformers has all sines first.

    Args:
        positions: [...], counted from 0.
        dim: width of the features that the encoding is added to; even.
        theta: base of the geometric series of frequencies.

    Returns:
        float32 [..., dim].

    Raises:
        ValueError: `dim` is odd.
    """
    if dim % 2:
        raise ValueError(f"sines and cosines come in pairs; dim must be even, not {dim}")
    cos, sin = rotary_cos_sin(positions, dim, theta)  # each [..., dim / 2]
    return torch.stack((sin, cos), dim=-1).flatten(-2)  # [..., dim / 2, 2] to [..., dim]


class LearnedPositionalEmbedding(nn.Module):
    """Learns one vector for each position, as GPT-2 and BERT do.

    Args:
        max_positions: number of positions; there is no vector for a later one.
        dim: width of the features that the embedding is added to.
    """

    def __init__(self, max_positions: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max_positions, dim))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, tokens: int, start: int = 0) -> torch.Tensor:
        """Returns the embeddings of positions start … start + tokens − 1, [tokens, dim].

        Raises:
            ValueError: there are not as many positions.
        """
        if start + tokens > len(self.weight):
            raise ValueError(
                f"position {start + tokens - 1} has no embedding: there are {len(self.weight)}; shorten the sequence"
            )
        return self.weight[start : start + tokens]


def relative_positions(tokens: int, cached: int = 0, device: torch.device | None = None) -> torch.Tensor:
    """Computes key position − query position, negative for the keys before: int64 [tokens, cached + tokens].

    Args:
        tokens: number of queries, which are the last of the tokens.
        cached: number of keys before the first query.
        device: where the result is placed.
    """
    queries = cached + torch.arange(tokens, device=device)[:, None]  # [tokens, 1]
    return torch.arange(cached + tokens, device=device) - queries


def alibi_slopes(num_heads: int) -> torch.Tensor:
    """Computes the slope of each head's penalty: 2^(−8 / heads), 2^(−16 / heads), …, 2^(−8) (Press et al. 2022).

    If the number of heads is no power of two, the slopes are those of the next lower power, followed by every second
    one of the next higher power, as in the authors' code.

    Returns:
        float32 [num_heads].
    """
    lower = 2 ** math.floor(math.log2(num_heads))

    def series(heads: int) -> list[float]:
        return [2.0 ** (-8 * (head + 1) / heads) for head in range(heads)]

    return torch.tensor((series(lower) + series(2 * lower)[::2])[:num_heads])


def alibi_bias(num_heads: int, tokens: int, cached: int = 0, device: torch.device | None = None) -> torch.Tensor:
    """Computes ALiBi's bias, −slope · distance, to be added to the logits of attention (Press et al. 2022, section 3).

    https://arxiv.org/abs/2108.12409. It is symmetric; a decoder adds the causal mask.

    Args:
        num_heads: number of heads, each with a slope of its own.
        tokens: number of queries, which are the last of the tokens.
        cached: number of keys before the first query.
        device: where the result is placed.

    Returns:
        float32 [num_heads, tokens, cached + tokens].
    """
    distances = relative_positions(tokens, cached, device).abs()
    return -alibi_slopes(num_heads).to(device)[:, None, None] * distances


def relative_position_bucket(
    relative_position: torch.Tensor, *, bidirectional: bool, num_buckets: int, max_distance: int
) -> torch.Tensor:
    """Sorts distances into buckets, one each for near ones, logarithmically wider for far ones (Raffel et al. 2020).

    https://arxiv.org/abs/1910.10683, section 2.1. With n buckets on a side, distances below n / 2 have a bucket each.
    The other n / 2 buckets split those up to `max_distance` in equal ratios; the last one holds all beyond as well.

    Args:
        relative_position: key position − query position, int64 [...].
        bidirectional: whether keys after the query have buckets of their own, half of all; otherwise they are counted
            as distance 0, since a causal mask hides them.
        num_buckets: number of buckets.
        max_distance: distance from which on all keys share a bucket.

    Returns:
        Buckets from 0 to num_buckets − 1, int64 [...].
    """
    if bidirectional:
        num_buckets //= 2
        offset = num_buckets * (relative_position > 0)
        distance = relative_position.abs()
    else:
        offset = torch.zeros_like(relative_position)
        distance = (-relative_position).clamp(min=0)
    exact = num_buckets // 2
    # How far the distance lies between `exact` (0) and `max_distance` (1), on a logarithmic scale.
    fraction = torch.log(distance.clamp(min=exact).float() / exact) / math.log(max_distance / exact)
    wide = (exact + (fraction * (num_buckets - exact)).long()).clamp(max=num_buckets - 1)
    return offset + torch.where(distance < exact, distance, wide)


class RelativePositionBias(nn.Module):
    """Learns a bias of the logits for each head and each bucket of distances, as T5 does (Raffel et al. 2020).

    T5 does not divide its logits by √head_dim; that is up to the attention that the bias is added to.

    Args:
        num_heads: number of heads, each with biases of its own.
        bidirectional: whether keys after the query have biases of their own; false for a decoder.
        num_buckets: number of biases a head.
        max_distance: distance from which on all keys share a bias.

    Raises:
        ValueError: there are too few buckets, or `max_distance` is not above the distances with a bucket of their own.
    """

    def __init__(
        self, num_heads: int, *, bidirectional: bool = True, num_buckets: int = 32, max_distance: int = 128
    ) -> None:
        super().__init__()
        fewest = 4 if bidirectional else 2
        if num_buckets < fewest:
            raise ValueError(f"num_buckets must be at least {fewest}, not {num_buckets}")
        if max_distance <= (exact := num_buckets // fewest):
            raise ValueError(f"max_distance {max_distance} must be above {exact}, the distances with their own bucket")
        self.bidirectional, self.num_buckets, self.max_distance = bidirectional, num_buckets, max_distance
        self.weight = nn.Parameter(torch.zeros(num_buckets, num_heads))

    def forward(self, tokens: int, cached: int = 0) -> torch.Tensor:
        """Computes the bias of `tokens` queries for the `cached` keys before them and their own.

        Returns:
            float [num_heads, tokens, cached + tokens].
        """
        buckets = relative_position_bucket(
            relative_positions(tokens, cached, self.weight.device),
            bidirectional=self.bidirectional,
            num_buckets=self.num_buckets,
            max_distance=self.max_distance,
        )
        return self.weight[buckets].permute(2, 0, 1)  # [tokens, keys, heads] to [heads, tokens, keys]
