"""Sequence-to-sequence models: an encoder reads one sequence, a decoder writes another, with or without attention.

The three decoders differ in what they see of the source: only the encoder's final state (Sutskever et al. 2014,
https://arxiv.org/abs/1409.3215); all its states, attended to before the step (Bahdanau et al. 2015); all its states,
attended to after the step (Luong et al. 2015).

Shapes: source int64 [batch, positions] with lengths int64 [batch]; tokens int64 [batch, steps]; encoder_outputs
[batch, positions, hidden_size]; logits [batch, steps, vocab_size]; attention_weights [batch, steps, positions].
"""

from typing import NamedTuple

import torch
from torch import nn

from dlcommon.rnn.attention import AdditiveAttention, GeneralAttention
from dlcommon.rnn.cells import RecurrentState
from dlcommon.rnn.recurrent import GRU

PAD, BOS, EOS = 0, 1, 2
"""Padding, beginning of sequence, end of sequence: the first three token ids of every vocabulary."""


class DecoderOutput(NamedTuple):
    """Holds what a decoder computes for a batch of token sequences."""

    logits: torch.Tensor
    """[batch, steps, vocab_size]."""
    state: RecurrentState
    """The state after the last step."""
    attention_weights: torch.Tensor | None
    """[batch, steps, positions]; None without attention."""


class Encoder(nn.Module):
    """Reads a source with an embedding and a GRU, both `hidden_size` wide."""

    def __init__(self, vocab_size: int, hidden_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, hidden_size)
        self.gru = GRU(hidden_size, hidden_size)

    def forward(self, source: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, RecurrentState]:
        """Returns the outputs at every position, and the state after each sequence's own last token."""
        outputs, state = self.gru(self.embedding(source), lengths=lengths)
        return outputs, state


class Decoder(nn.Module):
    """Decodes without attention: all it knows of the source is its initial state.

    Args:
        vocab_size: number of different tokens.
        hidden_size: width of the embedding and of the state.
        context_size: width of the context that attention adds to the input and the output of each step.
    """

    def __init__(self, vocab_size: int, hidden_size: int, context_size: int = 0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, hidden_size)
        self.gru = GRU(hidden_size + context_size, hidden_size)
        self.output = nn.Linear(hidden_size + context_size, vocab_size)

    def forward(
        self, tokens: torch.Tensor, state: RecurrentState, encoder_outputs: torch.Tensor, mask: torch.Tensor
    ) -> DecoderOutput:
        """Reads tokens and predicts the next one after each.

        Args:
            tokens: int64 [batch, steps].
            state: the state before the first of them.
            encoder_outputs: [batch, positions, hidden_size].
            mask: bool [batch, positions], true inside the source.
        """
        hidden, state = self.gru(self.embedding(tokens), state)
        return DecoderOutput(self.output(hidden), state, None)


class BahdanauDecoder(Decoder):
    """Attends with the state before each step; the context is part of the step's input.

    Each step waits for the one before, so the loop over time cannot be handed to a fused kernel.
    """

    def __init__(self, vocab_size: int, hidden_size: int) -> None:
        super().__init__(vocab_size, hidden_size, context_size=hidden_size)
        self.attention = AdditiveAttention(hidden_size, hidden_size, hidden_size)

    def forward(
        self, tokens: torch.Tensor, state: RecurrentState, encoder_outputs: torch.Tensor, mask: torch.Tensor
    ) -> DecoderOutput:
        """Reads tokens one at a time; arguments as in `Decoder.forward`."""
        features, attention_weights = [], []
        for embedded in self.embedding(tokens).split(1, dim=1):  # [batch, 1, hidden_size]
            query = state[0].transpose(0, 1)  # [layers = 1, batch, hidden_size] to [batch, 1, hidden_size]
            context, weights = self.attention(query, encoder_outputs, mask)  # context [batch, 1, hidden_size]
            hidden, state = self.gru(torch.cat([embedded, context], dim=2), state)
            features.append(torch.cat([hidden, context], dim=2))
            attention_weights.append(weights)
        logits = self.output(torch.cat(features, dim=1))  # from [batch, steps, 2·hidden_size]
        return DecoderOutput(logits, state, torch.cat(attention_weights, dim=1))


class LuongDecoder(Decoder):
    """Attends with the state after each step, so that in training all steps are computed at once.

    This is the paper's global attention without input feeding, which would make each step wait for the one before.
    """

    def __init__(self, vocab_size: int, hidden_size: int) -> None:
        super().__init__(vocab_size, hidden_size)
        self.attention = GeneralAttention(hidden_size, hidden_size)
        self.combine = nn.Linear(2 * hidden_size, hidden_size, bias=False)

    def forward(
        self, tokens: torch.Tensor, state: RecurrentState, encoder_outputs: torch.Tensor, mask: torch.Tensor
    ) -> DecoderOutput:
        """Reads all tokens at once; arguments as in `Decoder.forward`."""
        hidden, state = self.gru(self.embedding(tokens), state)  # [batch, steps, hidden_size]
        context, weights = self.attention(hidden, encoder_outputs, mask)  # every step is a query
        combined = torch.tanh(self.combine(torch.cat([context, hidden], dim=2)))  # equation 5
        return DecoderOutput(self.output(combined), state, weights)


class Seq2Seq(nn.Module):
    """Joins an encoder and a decoder."""

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, source: torch.Tensor, lengths: torch.Tensor, tokens: torch.Tensor) -> DecoderOutput:
        """Decodes with teacher forcing.

        Args:
            source: int64 [batch, positions], padded with PAD.
            lengths: int64 [batch].
            tokens: int64 [batch, steps], the target from BOS on: each step reads the true token before it, whatever
                the model itself would have predicted.
        """
        encoder_outputs, state = self.encoder(source, lengths)
        output: DecoderOutput = self.decoder(tokens, state, encoder_outputs, source != PAD)
        return output

    @torch.no_grad()
    def greedy_decode(
        self, source: torch.Tensor, lengths: torch.Tensor, max_length: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Feeds the most probable token of each step back in; after EOS there is only PAD.

        Returns:
            Tokens int64 [batch, max_length] without BOS, and the attention weights [batch, max_length, positions], or
            None without attention.
        """
        encoder_outputs, state = self.encoder(source, lengths)
        token = torch.full((len(source), 1), BOS, device=source.device)
        ended = torch.zeros_like(token, dtype=torch.bool)
        tokens, attention_weights = [], []
        for _ in range(max_length):
            logits, state, weights = self.decoder(token, state, encoder_outputs, source != PAD)
            token = logits.argmax(dim=2).masked_fill(ended, PAD)  # [batch, 1]
            ended = ended | (token == EOS)
            tokens.append(token)
            if weights is not None:
                attention_weights.append(weights)
        return torch.cat(tokens, dim=1), torch.cat(attention_weights, dim=1) if attention_weights else None
