"""Llama: the decoder-only Transformer that today's open language models share (Touvron et al. 2023).

What differs from GPT-2, and where it comes from: rotary position embedding (Su et al. 2021), RMSNorm (Zhang & Sennrich
2019), SwiGLU (Shazeer 2020), grouped-query attention (Ainslie et al. 2023), no biases. Mistral, Qwen 2 and 3, SmolLM2
and Mixtral are settings of `LlamaConfig`. Parameters have transformers' names, so that its files load as they are.

Shapes: token ids [batch, tokens]; features [batch, tokens, dim]; heads [batch, heads, tokens, head_dim].
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from dlcommon.llm.document_attention import DocumentAttention
from dlcommon.llm.llama_config import LlamaConfig as LlamaConfig
from dlcommon.llm.mixture_of_experts import MixtureOfExperts
from dlcommon.transformer.attention import causal_mask
from dlcommon.transformer.kv_cache import KVCache
from dlcommon.transformer.rms_norm import RMSNorm
from dlcommon.transformer.rotary_embedding import apply_rotary_emb, rotary_cos_sin, rotary_frequencies


class GroupedQueryAttention(nn.Module):
    """Lets groups of query heads share one head of keys and values (Ainslie et al. 2023, arXiv 2305.13245).

    The cache holds num_kv_heads instead of num_heads. Query head h reads head h // (num_heads / num_kv_heads) of these.
    """

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.dim, queries, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.dim, keys, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.dim, keys, bias=config.qkv_bias)
        self.o_proj = nn.Linear(queries, config.dim, bias=False)
        self.q_norm = RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else nn.Identity()

    def forward(
        self,
        x: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        mask: torch.Tensor | DocumentAttention | None = None,
        cache: KVCache | None = None,
    ) -> tuple[torch.Tensor, KVCache]:
        """Attends from the new tokens to the cached ones and to each other.

        Args:
            x: features of the new tokens, [batch, tokens, dim].
            cos: of the new tokens' rotary angles, [tokens, head_dim / 2] or [batch, 1, tokens, head_dim / 2].
            sin: shaped like `cos`.
            mask: bool, broadcastable to [batch, heads, tokens, cached + tokens], true where a token may attend;
                `None` for causal attention without a cache; for packed documents without one, `DocumentAttention`.
            cache: this layer's keys and values of the tokens before, if any.

        Returns:
            Features of the new tokens, [batch, tokens, dim], and the cache extended by them.
        """
        query, key, value = (
            projection(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # [batch, heads, tokens, head_dim]
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        query = apply_rotary_emb(self.q_norm(query), cos, sin)
        new = KVCache(apply_rotary_emb(self.k_norm(key), cos, sin), value)  # each [batch, kv heads, tokens, head_dim]
        cache = new if cache is None else cache.append(new)
        attended = (  # [batch, heads, tokens, head_dim]
            mask.attend(query, cache.keys, cache.values)
            if isinstance(mask, DocumentAttention)
            else F.scaled_dot_product_attention(
                query, cache.keys, cache.values, attn_mask=mask, is_causal=mask is None, enable_gqa=True
            )
        )
        return self.o_proj(attended.transpose(1, 2).flatten(2)), cache


class SwiGLU(nn.Module):
    """Computes W_down (silu(W_gate x) ⊙ W_up x) (Shazeer 2020, https://arxiv.org/abs/2002.05202, equation 6)."""

    def __init__(self, dim: int, feedforward_dim: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(dim, feedforward_dim, bias=False)
        self.up_proj = nn.Linear(dim, feedforward_dim, bias=False)
        self.down_proj = nn.Linear(feedforward_dim, dim, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [..., dim] to the same."""
        output: torch.Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return output


class Block(nn.Module):
    """Computes x + attention(norm(x)), then x + mlp(norm(x)); the mlp is a SwiGLU or a mixture of them."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.dim, config.norm_eps)
        self.self_attn = GroupedQueryAttention(config)
        self.post_attention_layernorm = RMSNorm(config.dim, config.norm_eps)
        self.mlp: nn.Module = (
            MixtureOfExperts(config.dim, config.feedforward_dim, config.num_experts, config.experts_per_token)
            if config.num_experts
            else SwiGLU(config.dim, config.feedforward_dim)
        )

    def forward(
        self,
        x: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        mask: torch.Tensor | DocumentAttention | None = None,
        cache: KVCache | None = None,
    ) -> tuple[torch.Tensor, KVCache]:
        """Maps features [batch, tokens, dim] to the same; arguments and cache as in `GroupedQueryAttention`."""
        attended, cache = self.self_attn(self.input_layernorm(x), cos, sin, mask, cache)
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x)), cache


class Decoder(nn.Module):
    """Holds the embedding, the blocks and the last norm: everything but the output layer."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.dim)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.gradient_checkpointing = False
        """Whether training keeps only each block's input and computes the rest again in the backward pass."""


class Llama(nn.Module):
    """Predicts each next token from the tokens so far.

    With tied embeddings there is no `lm_head`: the logits are products with the token embeddings.
    """

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.lm_head = None if config.tie_embeddings else nn.Linear(config.dim, config.vocab_size, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor | None = None,
        mask: torch.Tensor | DocumentAttention | None = None,
    ) -> torch.Tensor:
        """Computes the logits of every next token: [batch, tokens] to [batch, tokens, vocab_size].

        Arguments as of `features`.
        """
        return self.logits(self.features(tokens, positions, mask)[0])

    def features(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor | None = None,
        mask: torch.Tensor | DocumentAttention | None = None,
        cache: KVCache | None = None,
        embeddings: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, KVCache]:
        """Computes the last features, from which `logits` computes the logits.

        Args:
            tokens: the new tokens, [batch, tokens].
            positions: of the new tokens, [batch, tokens]; `None` counts on from the cache. Pass them where documents
                are packed into one row, or padding stands before a text.
            mask: bool, broadcastable to [batch, heads, tokens, cached + tokens], true where a token may attend, future
                tokens excluded; `None` for causal attention. For packed documents `DocumentAttention` is quicker.
            cache: keys and values of the tokens before, each [batch, layers, kv heads, cached tokens, head_dim].
            embeddings: what is read instead of the tokens' own embeddings, such as pictures, [batch, tokens, dim].

        Returns:
            Features of the new tokens, [batch, tokens, dim], and the cache extended by them.
        """
        cached = 0 if cache is None else cache.keys.size(3)
        if positions is None:
            positions = (cached + torch.arange(tokens.size(1), device=tokens.device))[None]  # [1, tokens]
        if mask is None and cache is not None:
            mask = causal_mask(tokens.size(1), cached, tokens.device)  # [tokens, cached + tokens]
        # The axis of size 1 broadcasts over the heads: [batch, 1, tokens, head_dim / 2].
        cos, sin = rotary_cos_sin(positions[:, None], self.config.head_dim, frequencies=self.frequencies(tokens.device))
        x = self.model.embed_tokens(tokens) if embeddings is None else embeddings
        layers = []
        for number, block in enumerate(self.model.layers):
            past = None if cache is None else cache.layer(number)
            if self.model.gradient_checkpointing and self.training:  # Chen et al. 2016, arxiv.org/abs/1604.06174
                x, extended = checkpoint(block, x, cos, sin, mask, past, use_reentrant=False)
            else:
                x, extended = block(x, cos, sin, mask, past)
            layers.append(extended)
        return self.model.norm(x), KVCache.stack(layers)

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Maps features [..., dim] to logits [..., vocab_size]."""
        weight = self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight
        return F.linear(features, weight)

    def step(
        self,
        tokens: torch.Tensor,
        cache: KVCache,
        positions: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, KVCache]:
        """Continues after tokens that were read before; arguments as of `features`, `cache` from `initial_state`.

        Returns:
            Logits of the new tokens, [batch, tokens, vocab_size], and the cache extended by them.
        """
        features, cache = self.features(tokens, positions, mask, cache)
        return self.logits(features), cache

    def initial_state(self, batch_size: int) -> KVCache:
        """Creates an empty cache, each tensor [batch_size, num_layers, num_kv_heads, 0, head_dim]."""
        config = self.config
        shape = (batch_size, config.num_layers, config.num_kv_heads, 0, config.head_dim)
        empty = self.model.norm.weight.new_zeros(shape)
        return KVCache(empty, empty)

    def frequencies(self, device: torch.device) -> torch.Tensor:
        """Computes the rotary frequencies, scaled where the model was extended to longer texts: [head_dim / 2]."""
        frequencies = rotary_frequencies(self.config.head_dim, self.config.rope_theta, device)
        scaling = self.config.rope_scaling
        return frequencies if scaling is None else scaling.scale(frequencies)
