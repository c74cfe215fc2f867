"""GPT-2: a decoder-only Transformer (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners").

What differs from the decoder of Vaswani et al. 2017: no encoder and so no cross-attention; learned positions; layer
normalization before each sublayer, and once more at the end; GELU in the feed-forward network. As there, the output
layer is the matrix of the token embedding.

Shapes: token ids [batch, tokens]; features [batch, tokens, dim]; heads [batch, heads, tokens, head_dim].
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from dlcommon.transformer.attention import MultiHeadAttention, causal_mask
from dlcommon.transformer.kv_cache import KVCache


@dataclass(frozen=True)
class GPT2Config:
    """Describes the architecture of a `GPT2`; the defaults are the small model's.

    Raises:
        ValueError: `dim` is no multiple of `num_heads`.
    """

    vocab_size: int = 50_257
    """Number of different tokens."""
    context_length: int = 1024
    """Number of positions that have an embedding: no longer text can be read."""
    num_layers: int = 12
    num_heads: int = 12
    dim: int = 768
    """Width of the features; each head gets dim / num_heads of it, the feed-forward network is 4 · dim wide."""
    dropout: float = 0.0
    """Probability of zeroing an embedding, an attention weight or an output of a sublayer while training."""
    init_std: float = 0.02
    """Standard deviation of the initial weights. 0.02 suits 768 features and more, 1 / √(3 dim) any width."""

    def __post_init__(self) -> None:
        if self.dim % self.num_heads:
            raise ValueError(f"dim {self.dim} must be a multiple of the {self.num_heads} heads")

    def num_parameters(self) -> int:
        """Computes the number of parameters: embeddings, 12 dim² + 13 dim for each layer, the last normalization."""
        embeddings = (self.vocab_size + self.context_length) * self.dim
        attention = 4 * self.dim**2 + 4 * self.dim  # query, key, value and output projections, with biases
        feed_forward = 2 * 4 * self.dim**2 + 4 * self.dim + self.dim  # up and down, with biases
        norms = 2 * 2 * self.dim  # two of them, a scale and a bias each
        return embeddings + self.num_layers * (attention + feed_forward + norms) + 2 * self.dim


GPT2_SIZES = {
    "small": GPT2Config(),
    "medium": GPT2Config(num_layers=24, num_heads=16, dim=1024),
    "large": GPT2Config(num_layers=36, num_heads=20, dim=1280),
    "xl": GPT2Config(num_layers=48, num_heads=25, dim=1600),
}
"""The four published models, as transformers names them: gpt2, gpt2-medium, gpt2-large, gpt2-xl."""


class GPT2Block(nn.Module):
    """Computes x + attention(norm(x)), then x + feed-forward(norm(x)): a pre-norm Transformer block."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)
        self.attention = MultiHeadAttention(config.dim, config.num_heads, dropout=config.dropout)
        self.up_proj = nn.Linear(config.dim, 4 * config.dim)
        self.down_proj = nn.Linear(4 * config.dim, config.dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor, cache: KVCache | None = None
    ) -> tuple[torch.Tensor, KVCache]:
        """Maps features [batch, tokens, dim] of the new tokens to the same.

        Args:
            x: the features.
            mask: bool [tokens, cached + tokens], true where a new token may attend.
            cache: this layer's keys and values of the tokens before, if any.

        Returns:
            The features, and the cache extended by the new tokens.
        """
        normed = self.attention_norm(x)
        new = self.attention.project_keys_values(normed)
        cache = new if cache is None else cache.append(new)  # [batch, heads, cached + tokens, head_dim]
        attended, _ = self.attention.attend(normed, cache, mask=mask)
        x = x + self.dropout(attended)
        hidden = F.gelu(self.up_proj(self.feed_forward_norm(x)), approximate="tanh")  # [batch, tokens, 4 · dim]
        return x + self.dropout(self.down_proj(hidden)), cache


class GPT2(nn.Module):
    """Predicts each next token from the tokens so far."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.dim)
        self.position_embedding = nn.Embedding(config.context_length, config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(GPT2Block(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.dim)
        for name, parameter in self.named_parameters():
            if name.endswith(("out_proj.weight", "down_proj.weight")):
                # 2 · num_layers outputs are summed up along the residual path: its variance shall not grow with depth.
                nn.init.normal_(parameter, std=config.init_std / math.sqrt(2 * config.num_layers))
            elif "norm" not in name:
                nn.init.zeros_(parameter) if name.endswith("bias") else nn.init.normal_(parameter, std=config.init_std)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Computes the logits of every next token: [batch, tokens] to [batch, tokens, vocab_size]."""
        features, _ = self.features(tokens)
        return self.logits(features)

    def features(
        self, tokens: torch.Tensor, position: torch.Tensor | None = None, cache: KVCache | None = None
    ) -> tuple[torch.Tensor, KVCache]:
        """Computes the last features, from which the logits follow.

        Args:
            tokens: the new tokens, [batch, tokens].
            position: [batch], how many tokens came before the first new one; `None`: none.
            cache: keys and values of the tokens before, each [batch, layers, heads, cached tokens, head_dim].

        Returns:
            Features of the new tokens, [batch, tokens, dim], and the cache extended by them.

        Raises:
            ValueError: there are more new tokens than positions.
        """
        num_tokens = tokens.size(1)
        if num_tokens > self.config.context_length:
            raise ValueError(f"{num_tokens} tokens, but only {self.config.context_length} positions have an embedding")
        positions = torch.arange(num_tokens, device=tokens.device)  # [tokens]
        if position is not None:
            positions = position[:, None] + positions  # [batch, tokens]
        x = self.dropout(self.token_embedding(tokens) + self.position_embedding(positions))
        mask = causal_mask(num_tokens, cached=0 if cache is None else cache.keys.size(3), device=tokens.device)
        layers = []
        for number, block in enumerate(self.blocks):
            x, extended = block(x, mask, None if cache is None else cache.layer(number))
            layers.append(extended)
        return self.norm(x), KVCache.stack(layers)

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Compares features with every token's embedding: [batch, tokens, dim] to [batch, tokens, vocab_size]."""
        return F.linear(features, self.token_embedding.weight)

    def step(self, tokens: torch.Tensor, position: torch.Tensor, cache: KVCache) -> tuple[torch.Tensor, KVCache]:
        """Continues after tokens that were read before; arguments as of `features`, `cache` from `initial_state`.

        Returns:
            Logits of the new tokens, [batch, tokens, vocab_size], and the cache extended by them.
        """
        features, cache = self.features(tokens, position, cache)
        return self.logits(features), cache

    def initial_state(self, batch_size: int) -> KVCache:
        """Creates an empty cache, each tensor [batch_size, num_layers, num_heads, 0, head_dim]."""
        config = self.config
        shape = (batch_size, config.num_layers, config.num_heads, 0, config.dim // config.num_heads)
        empty = self.norm.weight.new_zeros(shape)
        return KVCache(empty, empty)

    def load_transformers(self, state: Mapping[str, torch.Tensor]) -> None:
        """Copies the weights of transformers' `GPT2LMHeadModel` or `GPT2Model`, from its `state_dict()`.

        Raises:
            ValueError: a weight is missing or has another shape, or belongs to no GPT-2.
        """
        try:
            self.load_state_dict(from_transformers(state))
        except RuntimeError as error:
            raise ValueError(f"these are not the weights of a GPT-2 of this size: {error}") from None


_NAMES = {
    "wte": "token_embedding",
    "wpe": "position_embedding",
    "ln_f": "norm",
    "h.{}.ln_1": "blocks.{}.attention_norm",
    "h.{}.attn.c_proj": "blocks.{}.attention.out_proj",
    "h.{}.ln_2": "blocks.{}.feed_forward_norm",
    "h.{}.mlp.c_fc": "blocks.{}.up_proj",
    "h.{}.mlp.c_proj": "blocks.{}.down_proj",
}
"""Modules of transformers' GPT-2, and ours; {} is the number of the layer. Its h.{}.attn.c_attn is three of ours."""


def from_transformers(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Renames the weights of transformers' GPT-2, cuts the joint projection in three, and transposes matrices.

    Its layers' matrices are [in_features, out_features] (`Conv1D`), those of `nn.Linear` the other way round. Its
    `attn.c_attn` computes query, key and value side by side. `lm_head.weight` is the token embedding once more. Old
    files hold the causal mask as `attn.bias`.
    """
    ours = {}
    for name, tensor in state.items():
        name = name.removeprefix("transformer.")
        if name == "lm_head.weight" or name.endswith((".attn.bias", ".attn.masked_bias")):
            continue
        module, _, kind = name.rpartition(".")
        pattern, number = re.sub(r"\.\d+\.", ".{}.", module), "".join(re.findall(r"\.(\d+)\.", module))
        if ".{}." in pattern and kind == "weight" and tensor.ndim == 2:
            tensor = tensor.T  # [in_features, out_features] to [out_features, in_features]
        if pattern == "h.{}.attn.c_attn":
            for part, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                ours[f"blocks.{number}.attention.{part}_proj.{kind}"] = third
        else:
            ours[f"{_NAMES.get(pattern, pattern).format(number)}.{kind}"] = tensor
    return ours
