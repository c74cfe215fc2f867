"""The Transformer's decoder: causal self-attention, cross-attention and a feed-forward network (Vaswani et al. 2017).

It writes from left to right: a token's features never depend on those after it. Decoding token by token can therefore
keep each layer's keys and values (`DecoderState`) instead of computing the whole prefix again.

Shapes: features of the target [batch, tokens, dim]; memory, which is the encoder's output, [batch, source tokens, dim];
`memory_mask` broadcastable to [batch, heads, tokens, source tokens], true where the memory may be attended to. The
target needs no padding mask: no token sees the padding behind it, and what is computed there is ignored by the loss.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import nn

from dlcommon.transformer.attention import MultiHeadAttention, causal_mask
from dlcommon.transformer.encoder import Activation, FeedForward, Residual, stack_weights
from dlcommon.transformer.kv_cache import KVCache


class DecoderState(NamedTuple):
    """Holds what a decoder must remember between steps: plain tensors, the batch first in each.

    Indexing the batch axis of all of them reorders or repeats the sequences, as beam search needs.
    """

    keys: torch.Tensor
    """Self-attention's keys of the tokens written so far, [batch, layers, heads, tokens, head_dim]."""
    values: torch.Tensor
    """Their values, of the same shape."""
    memory_keys: torch.Tensor
    """Cross-attention's keys of the memory, [batch, layers, heads, source tokens, head_dim]; no step changes them."""
    memory_values: torch.Tensor
    """Their values, of the same shape."""
    memory_mask: torch.Tensor
    """bool [batch, 1, 1, source tokens], true where the memory may be attended to."""


class TransformerDecoderLayer(nn.Module):
    """Attends to the target so far, then to the memory, then applies a feed-forward network to each token.

    Equals `torch.nn.TransformerDecoderLayer(dim, num_heads, feedforward_dim, batch_first=True)` with the same weights
    and a causal `tgt_mask`.

    Args:
        dim: width of the features.
        num_heads: number of attention heads, each dim / num_heads wide.
        feedforward_dim: width of the hidden layer.
        dropout: probability of zeroing an attention weight, a hidden unit or a sublayer's output while training.
        norm_first: whether each sublayer is normalized before (pre-norm) or after (post-norm).
        activation: "relu" or "gelu".

    Raises:
        ValueError: `dim` is no multiple of `num_heads`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        feedforward_dim: int,
        *,
        dropout: float = 0.1,
        norm_first: bool = True,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(dim, num_heads, dropout=dropout)
        self.cross_attention = MultiHeadAttention(dim, num_heads, dropout=dropout)
        self.feed_forward = FeedForward(dim, feedforward_dim, dropout=dropout, activation=activation)
        self.self_residual, self.cross_residual, self.feed_forward_residual = (
            Residual(dim, dropout=dropout, norm_first=norm_first) for _ in range(3)
        )

    def forward(
        self,
        x: torch.Tensor,
        memory: torch.Tensor,
        *,
        memory_mask: torch.Tensor | None = None,
        need_weights: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Maps the features of a whole target [batch, tokens, dim] to the same.

        Returns:
            The features, and the cross-attention weights [batch, heads, tokens, source tokens] or `None`.
        """
        memory_cache = self.cross_attention.project_keys_values(memory)
        x, _, weights = self.step(x, None, memory_cache, memory_mask=memory_mask, need_weights=need_weights)
        return x, weights

    def step(
        self,
        x: torch.Tensor,
        cache: KVCache | None,
        memory_cache: KVCache,
        *,
        memory_mask: torch.Tensor | None = None,
        need_weights: bool = False,
    ) -> tuple[torch.Tensor, KVCache, torch.Tensor | None]:
        """Continues after the tokens that are cached.

        Args:
            x: features of the new tokens, [batch, tokens, dim].
            cache: this layer's self-attention keys and values of the tokens before; `None` if there are none.
            memory_cache: this layer's `cross_attention.project_keys_values(memory)`.
            memory_mask: where the memory may be attended to.
            need_weights: whether the cross-attention weights are returned.

        Returns:
            The features of the new tokens, the cache extended by them, and the cross-attention weights
            [batch, heads, tokens, source tokens] or `None`.
        """
        queries = self.self_residual.sublayer_input(x)
        new = self.self_attention.project_keys_values(queries)
        extended = new if cache is None else cache.append(new)  # [batch, heads, cached + tokens, head_dim]
        tokens = x.size(1)
        mask = causal_mask(tokens, cached=extended.keys.size(2) - tokens, device=x.device)
        attended, _ = self.self_attention.attend(queries, extended, mask=mask)
        x = self.self_residual.add(x, attended)

        queries = self.cross_residual.sublayer_input(x)  # the memory is normalized by the encoder already
        attended, weights = self.cross_attention.attend(
            queries, memory_cache, mask=memory_mask, need_weights=need_weights
        )
        x = self.cross_residual.add(x, attended)

        transformed = self.feed_forward(self.feed_forward_residual.sublayer_input(x))
        return self.feed_forward_residual.add(x, transformed), extended, weights


class TransformerDecoder(nn.Module):
    """Applies `num_layers` decoder layers one after the other; arguments as of `TransformerDecoderLayer`.

    In pre-norm a final layer normalization follows, since the sum of all sublayers' outputs would leave unnormalized.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        feedforward_dim: int,
        num_layers: int,
        *,
        dropout: float = 0.1,
        norm_first: bool = True,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        layers = nn.ModuleList(
            TransformerDecoderLayer(
                dim, num_heads, feedforward_dim, dropout=dropout, norm_first=norm_first, activation=activation
            )
            for _ in range(num_layers)
        )
        # A ModuleList does not know the type of its modules.
        self.layers = cast("Sequence[TransformerDecoderLayer]", layers)
        self.norm = nn.LayerNorm(dim) if norm_first else nn.Identity()

    def forward(
        self,
        x: torch.Tensor,
        memory: torch.Tensor,
        *,
        memory_mask: torch.Tensor | None = None,
        need_weights: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Maps the features of a whole target [batch, tokens, dim] to the same.

        Returns:
            The features, and the cross-attention weights of all layers [batch, layers, heads, tokens, source tokens] or
            `None`.
        """
        layer_weights = []
        for layer in self.layers:
            x, weights = layer(x, memory, memory_mask=memory_mask, need_weights=need_weights)
            layer_weights.append(weights)
        return self.norm(x), stack_weights(layer_weights)

    def start(self, memory: torch.Tensor, memory_mask: torch.Tensor | None = None) -> DecoderState:
        """Computes the memory's keys and values in every layer, once for all steps; no token is written yet.

        Args:
            memory: the encoder's output, [batch, source tokens, dim].
            memory_mask: bool [batch, 1, 1, source tokens]; `None` for no padding.
        """
        if memory_mask is None:
            memory_mask = torch.ones_like(memory[:, None, None, :, 0], dtype=torch.bool)
        caches = [layer.cross_attention.project_keys_values(memory) for layer in self.layers]
        memory_keys, memory_values = KVCache.stack(caches)
        empty = memory_keys[:, :, :, :0]  # [batch, layers, heads, 0, head_dim]
        return DecoderState(empty, empty, memory_keys, memory_values, memory_mask)

    def step(
        self, x: torch.Tensor, state: DecoderState, *, need_weights: bool = False
    ) -> tuple[torch.Tensor, DecoderState, torch.Tensor | None]:
        """Continues after the tokens that `state` holds.

        Args:
            x: features of the new tokens, [batch, tokens, dim].
            state: from `start`, or from the step before.
            need_weights: whether the cross-attention weights are returned.

        Returns:
            The features of the new tokens, the state extended by them, and the cross-attention weights of all layers
            [batch, layers, heads, tokens, source tokens] or `None`.
        """
        caches, layer_weights = [], []
        cache, memory_cache = KVCache(state.keys, state.values), KVCache(state.memory_keys, state.memory_values)
        for number, layer in enumerate(self.layers):
            x, extended, weights = layer.step(
                x,
                cache.layer(number),
                memory_cache.layer(number),
                memory_mask=state.memory_mask,
                need_weights=need_weights,
            )
            caches.append(extended)
            layer_weights.append(weights)
        keys, values = KVCache.stack(caches)
        state = state._replace(keys=keys, values=values)
        return self.norm(x), state, stack_weights(layer_weights)
