"""Scaled dot-product attention and multi-head attention (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762).

Shapes: features [batch, tokens, dim]; heads [batch, heads, tokens, head_dim]; weights [batch, heads, queries, keys].
A mask is broadcast to the shape of the weights. It is either boolean, true where a query may attend to a key, as in
`torch.nn.functional.scaled_dot_product_attention`, or a float bias that is added to the logits. Mind that
`torch.nn.MultiheadAttention` reads a boolean mask the other way round: true there is where attention is forbidden.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from dlcommon.transformer.kv_cache import KVCache


def scaled_dot_product_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None = None,
    dropout: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes softmax(Q Kᵀ / √head_dim) V (equation 1) and the attention weights.

    A query that may attend to no key gets weights of zero and an output of zero, as in torch.

    Args:
        query: [..., queries, head_dim].
        key: [..., keys, head_dim].
        value: [..., keys, value_dim].
        mask: boolean or float, broadcastable to [..., queries, keys]; `None` lets every query attend to every key.
        dropout: probability of zeroing a weight; always applied, so pass 0 outside training.

    Returns:
        The output [..., queries, value_dim], and the weights [..., queries, keys] as they were applied to the values.

    Raises:
        TypeError: `mask` is neither boolean nor floating-point.
    """
    # Products of head_dim pairs have a standard deviation of √head_dim; divided by it, the softmax is not saturated.
    logits = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))  # [..., queries, keys]
    if mask is None:
        weights = logits.softmax(dim=-1)
    else:
        _require_mask(mask)
        logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
        # The softmax of a row of −∞ is not a number, and neither is its gradient, so that row is put aside.
        empty = (logits == -torch.inf).all(dim=-1, keepdim=True)  # [..., queries, 1]
        weights = logits.masked_fill(empty, 0.0).softmax(dim=-1).masked_fill(empty, 0.0)
    weights = F.dropout(weights, dropout)
    return weights @ value, weights


def _require_mask(mask: torch.Tensor) -> None:
    """Raises TypeError for a mask of integers: 0 and 1 would be taken for a bias of 0 and 1."""
    if mask.dtype != torch.bool and not mask.dtype.is_floating_point:
        raise TypeError(f"an attention mask is boolean or a floating-point bias, not {mask.dtype}; use mask.bool()")


def _fused_is_slow(query: torch.Tensor, keys: torch.Tensor) -> bool:
    """Tells whether plain products train faster: on a CPU, torch's fused kernel is slow in bfloat16 on few tokens.

    Its backward pass over 17 tokens takes 3 to 6 times as long as theirs.
    """
    few = query.size(-2) * keys.size(-2) <= 128 * 128
    return torch.is_grad_enabled() and query.device.type == "cpu" and query.dtype == torch.bfloat16 and few


def causal_mask(tokens: int, cached: int = 0, device: torch.device | None = None) -> torch.Tensor:
    """Creates the mask by which each new token attends to the cached ones, to those before it and to itself.

    Returns:
        bool [tokens, cached + tokens], true where a token may attend.
    """
    positions = cached + torch.arange(tokens, device=device)[:, None]  # [tokens, 1]: query i is token cached + i
    return torch.arange(cached + tokens, device=device) <= positions


def padding_mask(lengths: torch.Tensor, tokens: int) -> torch.Tensor:
    """Creates the mask that hides what follows each sequence's end, from sequence lengths [batch].

    Returns:
        bool [batch, 1, 1, tokens], true for the tokens of the sequence; the axes of size 1 are heads and queries.
    """
    return torch.arange(tokens, device=lengths.device) < lengths[:, None, None, None]


class MultiHeadAttention(nn.Module):
    """Attends in several subspaces at once (section 3.2.2): Concat(head_1, …, head_h) W_out.

    Head i is the attention of the i-th slices of W_query x, W_key memory and W_value memory. Equals
    `torch.nn.MultiheadAttention(dim, num_heads, batch_first=True)` with the same weights, whose `in_proj_weight` is
    the weights of `query_proj`, `key_proj` and `value_proj` one above the other.

    Args:
        dim: width of the features.
        num_heads: number of heads, each dim / num_heads wide.
        dropout: probability of zeroing an attention weight while training.
        bias: whether the projections add a bias.

    Raises:
        ValueError: `dim` is no multiple of `num_heads`.
    """

    def __init__(self, dim: int, num_heads: int, *, dropout: float = 0.0, bias: bool = True) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim {dim} must be a multiple of num_heads {num_heads}")
        self.num_heads, self.dropout = num_heads, dropout
        self.query_proj, self.key_proj, self.value_proj, self.out_proj = (
            nn.Linear(dim, dim, bias=bias) for _ in range(4)
        )
        for projection in (self.query_proj, self.key_proj, self.value_proj, self.out_proj):
            nn.init.xavier_uniform_(projection.weight)
            if bias:
                nn.init.zeros_(projection.bias)

    def forward(
        self,
        x: torch.Tensor,
        memory: torch.Tensor | None = None,
        *,
        mask: torch.Tensor | None = None,
        need_weights: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attends from `x` to `memory` (cross-attention), or to itself (self-attention).

        Args:
            x: features that ask, [batch, queries, dim].
            memory: features that are attended to, [batch, keys, dim]; `None` for `x` itself.
            mask: boolean or float, broadcastable to [batch, heads, queries, keys].
            need_weights: whether the weights are returned; without them torch's fused kernel is used where it is fast.

        Returns:
            The output [batch, queries, dim], and the weights [batch, heads, queries, keys] or `None`.
        """
        cache = self.project_keys_values(x if memory is None else memory)
        return self.attend(x, cache, mask=mask, need_weights=need_weights)

    def project_keys_values(self, memory: torch.Tensor) -> KVCache:
        """Computes the keys and values of `memory` [batch, keys, dim], each [batch, heads, keys, head_dim]."""
        return KVCache(self._split_heads(self.key_proj(memory)), self._split_heads(self.value_proj(memory)))

    def attend(
        self, x: torch.Tensor, cache: KVCache, *, mask: torch.Tensor | None = None, need_weights: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attends from `x` [batch, queries, dim] to keys and values that are computed already; else as `forward`.

        A decoder that writes token by token keeps two caches a layer: that of the encoder's output, which stays, and
        that of its own tokens, `cache.append(self.project_keys_values(new))`.
        """
        query = self._split_heads(self.query_proj(x))
        dropout = self.dropout if self.training else 0.0
        if mask is not None and mask.dtype != torch.bool:
            _require_mask(mask)
            mask = mask.to(query.dtype)  # a bias of float32 beside queries of bfloat16
        # The graph that torch exports for its fused kernel fails where there are no keys, and averages the values where
        # a query may attend to none.
        if need_weights or torch.compiler.is_exporting() or _fused_is_slow(query, cache.keys):
            heads, weights = scaled_dot_product_attention(query, cache.keys, cache.values, mask, dropout)
        else:
            heads, weights = F.scaled_dot_product_attention(query, cache.keys, cache.values, mask, dropout), None
        return self.out_proj(self._merge_heads(heads)), weights if need_weights else None

    def _split_heads(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, tokens, dim] to [batch, heads, tokens, head_dim]: head i gets the i-th slice of the features."""
        batch, tokens, dim = x.shape
        return x.view(batch, tokens, self.num_heads, dim // self.num_heads).transpose(1, 2)

    def _merge_heads(self, heads: torch.Tensor) -> torch.Tensor:
        """Maps [batch, heads, tokens, head_dim] to [batch, tokens, dim]: the heads side by side."""
        return heads.transpose(1, 2).flatten(start_dim=2)
