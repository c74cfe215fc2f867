"""A decoder-only Transformer as language models are built today.

What differs from GPT-2 (Radford et al. 2019), and from whom it comes: rotary positions (Su et al. 2021), RMSNorm
before each part (Zhang & Sennrich 2019), normalized queries and keys (Henry et al. 2020,
https://arxiv.org/abs/2010.04245), the squared ReLU (So et al. 2021, https://arxiv.org/abs/2109.08668), no biases, and
output projections that start at zero, so that each block starts as the identity.

Shapes: tokens [batch, tokens]; features [batch, tokens, dim]; heads [batch, heads, tokens, head_dim].
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from dlcommon.transformer.rms_norm import RMSNorm, rms_norm
from dlcommon.transformer.rotary import rotary_angles, rotate

State = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of the tokens seen so far: each [batch, layers, heads, past, head_dim]."""


@dataclass(frozen=True)
class GPTConfig:
    vocabulary: int
    """Number of different tokens."""
    context: int = 256
    """Most tokens that the model was trained to look at."""
    layers: int = 6
    heads: int = 6
    dim: int = 384
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.dim % (2 * self.heads):
            raise ValueError(f"dim {self.dim} must be a multiple of twice the {self.heads} heads")


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which a token sees itself and those before it (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.qkv = nn.Linear(config.dim, 3 * config.dim, bias=False)
        self.projection = nn.Linear(config.dim, config.dim, bias=False)
        nn.init.zeros_(self.projection.weight)

    def forward(
        self, x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor, past: State | None = None
    ) -> tuple[torch.Tensor, State]:
        """Features of the new tokens, and keys and values [batch, heads, past + tokens, head_dim] of all."""
        batch, tokens, dim = x.shape
        split = self.qkv(x).view(batch, tokens, 3, self.heads, dim // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)  # each [batch, heads, tokens, head_dim]
        query, key = rotate(rms_norm(query), cosines, sines), rotate(rms_norm(key), cosines, sines)
        mask = None
        if past is not None:
            key, value = torch.cat((past[0], key), dim=2), torch.cat((past[1], value), dim=2)
            # New token i stands at position past + i.
            last = torch.arange(tokens, device=x.device)[:, None] + (key.size(2) - tokens)
            mask = torch.arange(key.size(2), device=x.device) <= last  # [tokens, past + tokens]
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=past is None, dropout_p=self.dropout if self.training else 0.0
        )
        return self.projection(mixed.transpose(1, 2).reshape(batch, tokens, dim)), (key, value)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(config.dim), RMSNorm(config.dim)
        self.attention = CausalSelfAttention(config)
        self.up = nn.Linear(config.dim, 4 * config.dim, bias=False)
        self.down = nn.Linear(4 * config.dim, config.dim, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.zeros_(self.down.weight)

    def forward(
        self, x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor, past: State | None = None
    ) -> tuple[torch.Tensor, State]:
        mixed, present = self.attention(self.norm1(x), cosines, sines, past)
        x = x + self.dropout(mixed)
        return x + self.dropout(self.down(F.relu(self.up(self.norm2(x))).square())), present


class GPT(nn.Module):
    """Logits of each next token, from the tokens so far."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.dim)
        self.head = nn.Linear(config.dim, config.vocabulary, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.zeros_(self.head.weight)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[batch, tokens] to logits [batch, tokens, vocabulary]."""
        x = self._embed(tokens)
        angles = self._angles(torch.arange(tokens.size(1), device=tokens.device))
        for block in self.blocks:
            x, _ = block(x, *angles)
        return self.head(self.norm(x))

    def step(self, tokens: torch.Tensor, position: torch.Tensor, past: State) -> tuple[torch.Tensor, State]:
        """Continues after tokens that were seen before: the logits of the new ones, and the state after them.

        Args:
            tokens: [batch, tokens], the new ones.
            position: [batch], how many came before the first of them, whether they are in `past` or forgotten.
            past: keys and values of the tokens before; `initial_state` where there are none. The oldest may be left
                out, since keys carry their own positions.
        """
        x = self._embed(tokens)
        positions = position[:, None] + torch.arange(tokens.size(1), device=tokens.device)  # [batch, tokens]
        angles = self._angles(positions[:, None])
        keys, values = [], []
        for layer, block in enumerate(self.blocks):
            x, (key, value) = block(x, *angles, (past[0][:, layer], past[1][:, layer]))
            keys.append(key)
            values.append(value)
        return self.head(self.norm(x)), (torch.stack(keys, dim=1), torch.stack(values, dim=1))

    def initial_state(self, batch: int) -> State:
        """Of a model that has seen nothing."""
        config = self.config
        empty = self.head.weight.new_zeros(batch, config.layers, config.heads, 0, config.dim // config.heads)
        return empty, empty

    def _embed(self, tokens: torch.Tensor) -> torch.Tensor:
        return rms_norm(self.embedding(tokens))

    def _angles(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return rotary_angles(positions, self.config.dim // self.config.heads)
