"""The Transformer of "Attention Is All You Need" (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762).

An encoder reads the source; a decoder writes the target token by token and looks at the encoder's output. Unlike
the paper's, layers are pre-norm unless asked otherwise, and dropout is applied inside the sublayers too, as in torch.

Shapes: source int64 [batch, source tokens], padded with `pad_id`; target int64 [batch, tokens]; memory, which is the
encoder's output, [batch, source tokens, dim]; source_mask bool [batch, 1, 1, source tokens], true where a token is;
logits [batch, tokens, vocab_size].
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from dlcommon.transformer.decoder import DecoderState, TransformerDecoder
from dlcommon.transformer.encoder import Activation, TransformerEncoder
from dlcommon.transformer.positional_encoding import sinusoidal_encoding


@dataclass(frozen=True)
class TransformerConfig:
    """Describes the architecture of a `Transformer`; the defaults are the paper's base model.

    Raises:
        ValueError: `dim` is odd or no multiple of `num_heads`, or the pad token is not in the vocabulary.
    """

    vocab_size: int
    """Number of different tokens, of source and target together."""
    dim: int = 512
    """Width of the features; each attention head gets dim / num_heads of it."""
    num_heads: int = 8
    encoder_layers: int = 6
    decoder_layers: int = 6
    feedforward_dim: int = 2048
    dropout: float = 0.1
    """Probability of zeroing an embedding's feature, an attention weight, a hidden unit or a sublayer's output."""
    norm_first: bool = True
    """Pre-norm, which trains without warm-up; the paper is post-norm."""
    activation: Activation = "relu"
    share_embeddings: bool = True
    """Whether source and target share one embedding matrix. The output layer shares the target's in any case."""
    pad_id: int = 0
    """Token that fills up shorter sources; it is attended to by none."""

    def __post_init__(self) -> None:
        if self.dim % self.num_heads or self.dim % 2:
            raise ValueError(f"dim {self.dim} must be even and a multiple of the {self.num_heads} heads")
        if not 0 <= self.pad_id < self.vocab_size:
            raise ValueError(f"pad_id {self.pad_id} must be a token of the {self.vocab_size} in the vocabulary")
        if self.encoder_layers < 1 or self.decoder_layers < 1:
            raise ValueError("encoder and decoder must have at least one layer each")


class Transformer(nn.Module):
    """Maps a source to the logits of each next token of the target."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.target_embedding = nn.Embedding(config.vocab_size, config.dim)
        self.source_embedding = (
            self.target_embedding if config.share_embeddings else nn.Embedding(config.vocab_size, config.dim)
        )
        for embedding in dict.fromkeys((self.source_embedding, self.target_embedding)):  # each once
            # Scaled by √dim the features then start with variance 1, and so do the logits of normalized features.
            nn.init.normal_(embedding.weight, std=config.dim**-0.5)
        self.encoder = TransformerEncoder(
            config.dim,
            config.num_heads,
            config.feedforward_dim,
            config.encoder_layers,
            dropout=config.dropout,
            norm_first=config.norm_first,
            activation=config.activation,
        )
        self.decoder = TransformerDecoder(
            config.dim,
            config.num_heads,
            config.feedforward_dim,
            config.decoder_layers,
            dropout=config.dropout,
            norm_first=config.norm_first,
            activation=config.activation,
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, source: torch.Tensor, target_in: torch.Tensor) -> torch.Tensor:
        """Computes the logits of each next token with teacher forcing.

        Args:
            source: int64 [batch, source tokens], padded with `pad_id`.
            target_in: int64 [batch, tokens], from the begin token on, without the last token; padded at the end.
        """
        source_mask = self.source_mask(source)
        return self.decode(target_in, self.encode(source, source_mask), source_mask)

    def source_mask(self, source: torch.Tensor) -> torch.Tensor:
        """Returns where the source has a token that is not padding: bool [batch, 1, 1, source tokens]."""
        return (source != self.config.pad_id)[:, None, None, :]

    def encode(self, source: torch.Tensor, source_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Reads the source: [batch, source tokens] to the memory [batch, source tokens, dim]."""
        positions = torch.arange(source.size(1), device=source.device)
        memory, _ = self.encoder(self._embed(self.source_embedding, source, positions), source_mask)
        output: torch.Tensor = memory
        return output

    def decode(
        self, target_in: torch.Tensor, memory: torch.Tensor, source_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Computes the logits of each token after `target_in`, [batch, tokens, vocab_size]."""
        return self._logits(self.decode_features(target_in, memory, source_mask))

    def decode_features(
        self, target_in: torch.Tensor, memory: torch.Tensor, source_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Computes the features that `decode` turns into logits, [batch, tokens, dim]."""
        return self._decode(target_in, memory, source_mask, need_weights=False)[0]

    def decode_with_weights(
        self, target_in: torch.Tensor, memory: torch.Tensor, source_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decodes as `decode` does, and says where each token looked.

        Returns:
            The logits, and the cross-attention weights [batch, layers, heads, tokens, source tokens].
        """
        features, weights = self._decode(target_in, memory, source_mask, need_weights=True)
        assert weights is not None
        return self._logits(features), weights

    def start(self, memory: torch.Tensor, source_mask: torch.Tensor | None = None) -> DecoderState:
        """Creates the state before the first token; the memory's keys and values are computed here, once."""
        return self.decoder.start(memory, source_mask)

    def step(
        self, tokens: torch.Tensor, position: torch.Tensor, state: DecoderState
    ) -> tuple[torch.Tensor, DecoderState]:
        """Continues after the tokens that `state` holds.

        Args:
            tokens: the new tokens, int64 [batch, tokens]; one each while generating.
            position: int64 [batch], how many tokens came before the first new one.
            state: from `start`, or from the step before.

        Returns:
            Logits of the new tokens, [batch, tokens, vocab_size], and the state extended by them.
        """
        logits, state, _ = self._step(tokens, position, state, need_weights=False)
        return logits, state

    def step_with_weights(
        self, tokens: torch.Tensor, position: torch.Tensor, state: DecoderState
    ) -> tuple[torch.Tensor, DecoderState, torch.Tensor]:
        """Continues as `step` does, and returns the cross-attention weights of the new tokens as well.

        Returns:
            The logits, the state, and the weights [batch, layers, heads, tokens, source tokens].
        """
        logits, state, weights = self._step(tokens, position, state, need_weights=True)
        assert weights is not None
        return logits, state, weights

    @torch.no_grad()
    def greedy_decode(self, source: torch.Tensor, bos_id: int, eos_id: int, max_length: int) -> torch.Tensor:
        """Feeds the most probable token of each step back in; after `eos_id` there is only padding.

        Returns:
            Tokens int64 [batch, at most max_length], without the begin token.
        """
        source_mask = self.source_mask(source)
        state = self.start(self.encode(source, source_mask), source_mask)
        token = torch.full((len(source), 1), bos_id, device=source.device)
        ended = torch.zeros_like(token, dtype=torch.bool)
        tokens = []
        for position in range(max_length):
            logits, state = self.step(token, torch.full_like(token[:, 0], position), state)
            token = logits.argmax(dim=2).masked_fill(ended, self.config.pad_id)  # [batch, 1]
            tokens.append(token)
            ended = ended | (token == eos_id)
            if ended.all():
                break
        return torch.cat(tokens, dim=1)

    def _decode(
        self, target_in: torch.Tensor, memory: torch.Tensor, source_mask: torch.Tensor | None, need_weights: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        positions = torch.arange(target_in.size(1), device=target_in.device)
        x = self._embed(self.target_embedding, target_in, positions)
        x, weights = self.decoder(x, memory, memory_mask=source_mask, need_weights=need_weights)
        return x, weights

    def _step(
        self, tokens: torch.Tensor, position: torch.Tensor, state: DecoderState, need_weights: bool
    ) -> tuple[torch.Tensor, DecoderState, torch.Tensor | None]:
        positions = position[:, None] + torch.arange(tokens.size(1), device=tokens.device)  # [batch, tokens]
        x = self._embed(self.target_embedding, tokens, positions)
        x, state, weights = self.decoder.step(x, state, need_weights=need_weights)
        return self._logits(x), state, weights

    def _embed(self, embedding: nn.Embedding, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Adds the positions' encoding to embeddings scaled by √dim (sections 3.4, 3.5): to [batch, tokens, dim].

        Unscaled, embeddings of length 1 would drown in the encoding, whose length is √(dim / 2).
        """
        embedded = embedding(tokens) * math.sqrt(self.config.dim)
        encoded: torch.Tensor = self.dropout(embedded + sinusoidal_encoding(positions, self.config.dim).to(embedded))
        return encoded

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        """Multiplies by the target's embedding: the tied output layer (Press & Wolf 2017, section 3.4 of the paper)."""
        return F.linear(x, self.target_embedding.weight)
