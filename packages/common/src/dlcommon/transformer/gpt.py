"""A decoder-only Transformer with the components of today's language models.

What differs from GPT-2 (Radford et al. 2019), and where it comes from: rotary position embedding (Su et al. 2021),
RMSNorm before each sublayer (Zhang & Sennrich 2019), query-key normalization (Henry et al. 2020,
https://arxiv.org/abs/2010.04245), squared ReLU (So et al. 2021, https://arxiv.org/abs/2109.08668), no biases, and
output projections initialized to zero, so that each block starts as the identity.

Shapes: token ids [batch, tokens]; features [batch, tokens, dim]; heads [batch, heads, tokens, head_dim].
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from dlcommon.transformer.kv_cache import KVCache
from dlcommon.transformer.rms_norm import RMSNorm, rms_norm
from dlcommon.transformer.rotary_embedding import apply_rotary_emb, rotary_cos_sin


@dataclass(frozen=True)
class GPTConfig:
    """Describes the architecture of a `GPT`.

    Raises:
        ValueError: `dim` cannot be split into heads of even width.
    """

    vocab_size: int
    """Number of different tokens."""
    context_length: int = 256
    """Largest number of tokens that the model is trained to attend to."""
    num_layers: int = 6
    num_heads: int = 6
    dim: int = 384
    """Width of the features; each head gets dim / num_heads of it."""
    dropout: float = 0.0
    """Probability of zeroing an attention weight or an output of a sublayer while training."""

    def __post_init__(self) -> None:
        if self.dim % (2 * self.num_heads):
            raise ValueError(f"dim {self.dim} must be a multiple of twice the {self.num_heads} heads")

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.dim // self.num_heads


class CausalSelfAttention(nn.Module):
    """Lets every token attend to itself and to those before it (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.num_heads, self.dropout = config.num_heads, config.dropout
        self.qkv_proj = nn.Linear(config.dim, 3 * config.dim, bias=False)
        self.out_proj = nn.Linear(config.dim, config.dim, bias=False)
        nn.init.zeros_(self.out_proj.weight)

    def forward(
        self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, cache: KVCache | None = None
    ) -> tuple[torch.Tensor, KVCache]:
        """Attends from the new tokens to the cached ones and to each other.

        Args:
            x: features of the new tokens, [batch, tokens, dim].
            cos: of the new tokens' rotary angles, [tokens, head_dim / 2] or [batch, 1, tokens, head_dim / 2].
            sin: shaped like `cos`.
            cache: this layer's keys and values of the tokens before, if any.

        Returns:
            Features of the new tokens, [batch, tokens, dim], and the cache extended by them.
        """
        batch, tokens, dim = x.shape
        qkv = self.qkv_proj(x).view(batch, tokens, 3, self.num_heads, dim // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each [batch, heads, tokens, head_dim]
        # Queries and keys of unit RMS bound the logits: no large pair can saturate the softmax early in training.
        query = apply_rotary_emb(rms_norm(query), cos, sin)
        key = apply_rotary_emb(rms_norm(key), cos, sin)
        mask = None
        if cache is not None:
            # Cached keys are rotated already, by their own positions.
            key, value = cache.append(KVCache(key, value))  # each [batch, heads, cached + tokens, head_dim]
            # `is_causal` would align the first query with the first key. Here query i is token cached + i.
            positions = torch.arange(tokens, device=x.device)[:, None] + (key.size(2) - tokens)  # [tokens, 1]
            mask = torch.arange(key.size(2), device=x.device) <= positions  # [tokens, cached + tokens]
        attended = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=cache is None, dropout_p=self.dropout if self.training else 0.0
        )  # [batch, heads, tokens, head_dim]
        merged = attended.transpose(1, 2).reshape(batch, tokens, dim)  # the heads side by side
        return self.out_proj(merged), KVCache(key, value)


class MLP(nn.Module):
    """Computes W_down relu(W_up x)² for every token: [batch, tokens, dim] to the same."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.dim, 4 * config.dim, bias=False)
        self.down_proj = nn.Linear(4 * config.dim, config.dim, bias=False)
        nn.init.zeros_(self.down_proj.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, tokens, dim] to the same."""
        output: torch.Tensor = self.down_proj(F.relu(self.up_proj(x)).square())
        return output


class Block(nn.Module):
    """Computes x + attention(norm(x)), then x + mlp(norm(x)): a pre-norm Transformer block."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(config.dim), RMSNorm(config.dim)
        self.attention = CausalSelfAttention(config)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, cache: KVCache | None = None
    ) -> tuple[torch.Tensor, KVCache]:
        """Maps features [batch, tokens, dim] to the same; arguments and cache as in `CausalSelfAttention`."""
        attended, cache = self.attention(self.norm1(x), cos, sin, cache)
        x = x + self.dropout(attended)
        return x + self.dropout(self.mlp(self.norm2(x))), cache


class GPT(nn.Module):
    """Predicts each next token from the tokens so far."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.dim)
        self.lm_head = nn.Linear(config.dim, config.vocab_size, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.zeros_(self.lm_head.weight)  # every next token starts equally probable: the loss is log(vocab_size)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Computes the logits of every next token: [batch, tokens] to [batch, tokens, vocab_size]."""
        x = self._embed(tokens)
        cos, sin = rotary_cos_sin(torch.arange(tokens.size(1), device=tokens.device), self.config.head_dim)
        for block in self.blocks:
            x, _ = block(x, cos, sin)
        logits: torch.Tensor = self.lm_head(self.norm(x))
        return logits

    def step(self, tokens: torch.Tensor, position: torch.Tensor, cache: KVCache) -> tuple[torch.Tensor, KVCache]:
        """Continues after tokens that were read before; arguments as of `features`.

        Returns:
            Logits of the new tokens, [batch, tokens, vocab_size], and the cache extended by them.
        """
        features, cache = self.features(tokens, position, cache)
        return self.lm_head(features), cache

    def features(self, tokens: torch.Tensor, position: torch.Tensor, cache: KVCache) -> tuple[torch.Tensor, KVCache]:
        """Computes the last features, from which `lm_head` computes the logits.

        Args:
            tokens: the new tokens, [batch, tokens].
            position: [batch], how many tokens came before the first new one, cached or dropped from the cache.
            cache: keys and values of the tokens before; start from `initial_state`. The oldest entries may be
                dropped, since keys carry their own positions.

        Returns:
            Features of the new tokens, [batch, tokens, dim], and the cache extended by them.
        """
        x = self._embed(tokens)
        positions = position[:, None] + torch.arange(tokens.size(1), device=tokens.device)  # [batch, tokens]
        # The axis of size 1 broadcasts over the heads: [batch, 1, tokens, head_dim / 2].
        cos, sin = rotary_cos_sin(positions[:, None], self.config.head_dim)
        layers = []
        for number, block in enumerate(self.blocks):
            x, extended = block(x, cos, sin, cache.layer(number))
            layers.append(extended)
        return self.norm(x), KVCache.stack(layers)

    def initial_state(self, batch_size: int) -> KVCache:
        """Creates an empty cache, each tensor [batch_size, num_layers, num_heads, 0, head_dim]."""
        config = self.config
        empty = self.lm_head.weight.new_zeros(batch_size, config.num_layers, config.num_heads, 0, config.head_dim)
        return KVCache(empty, empty)

    def _embed(self, tokens: torch.Tensor) -> torch.Tensor:
        return rms_norm(self.embedding(tokens))
