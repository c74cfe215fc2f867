"""An encoder reads a sequence, a decoder writes another: with and without attention.

Three decoders that differ in what they see of the source: only the encoder's last state (Sutskever et al. 2014); all
states, chosen before the step (Bahdanau et al. 2015); all states, chosen after the step (Luong et al. 2015).

Shapes: source int64 [batch, positions] with lengths int64 [batch]; tokens int64 [batch, steps]; memory (the encoder's
outputs) [batch, positions, hidden]; logits [batch, steps, vocabulary]; weights [batch, steps, positions].
"""

from typing import NamedTuple

import torch
from torch import nn

from dlcommon.rnn.attention import AdditiveAttention, GeneralAttention
from dlcommon.rnn.cells import State
from dlcommon.rnn.recurrent import GRU

PAD, START, END = 0, 1, 2
"""The first three numbers of a vocabulary."""


class Decoded(NamedTuple):
    logits: torch.Tensor
    state: State
    weights: torch.Tensor | None
    """How much of each source position went into each step; None without attention."""


class Encoder(nn.Module):
    """Embedding and GRU."""

    def __init__(self, vocabulary: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.gru = GRU(hidden, hidden)

    def forward(self, source: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, State]:
        """Memory, and the state after each sequence's own last token."""
        return self.gru(self.embedding(source), lengths=lengths)


class Decoder(nn.Module):
    """Without attention: all that it knows of the source is the state that it starts from.

    Args:
        vocabulary: different tokens.
        hidden: width of embedding and state.
        context: width of what attention adds to the input and to the output of each step.
    """

    def __init__(self, vocabulary: int, hidden: int, context: int = 0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.gru = GRU(hidden + context, hidden)
        self.output = nn.Linear(hidden + context, vocabulary)

    def forward(self, tokens: torch.Tensor, state: State, memory: torch.Tensor, mask: torch.Tensor) -> Decoded:
        """Reads tokens; says after each what comes next. `mask` [batch, positions] is true inside the source."""
        hidden, state = self.gru(self.embedding(tokens), state)
        return Decoded(self.output(hidden), state, None)


class BahdanauDecoder(Decoder):
    """Attends with the state before the step; the context is part of the step's input.

    Each step waits for the one before, so the loop over time cannot be handed to a fused kernel.
    """

    def __init__(self, vocabulary: int, hidden: int) -> None:
        super().__init__(vocabulary, hidden, context=hidden)
        self.attention = AdditiveAttention(hidden, hidden, hidden)

    def forward(self, tokens: torch.Tensor, state: State, memory: torch.Tensor, mask: torch.Tensor) -> Decoded:
        seen, looked_at = [], []
        for embedded in self.embedding(tokens).split(1, dim=1):  # [batch, 1, hidden]
            context, weights = self.attention(state[0].transpose(0, 1), memory, mask)
            hidden, state = self.gru(torch.cat([embedded, context], dim=2), state)
            seen.append(torch.cat([hidden, context], dim=2))
            looked_at.append(weights)
        return Decoded(self.output(torch.cat(seen, dim=1)), state, torch.cat(looked_at, dim=1))


class LuongDecoder(Decoder):
    """Attends with the state after the step, so that in training all steps are done at once.

    This is the paper's global attention without input feeding, which would make each step wait for the one before.
    """

    def __init__(self, vocabulary: int, hidden: int) -> None:
        super().__init__(vocabulary, hidden)
        self.attention = GeneralAttention(hidden, hidden)
        self.combine = nn.Linear(2 * hidden, hidden, bias=False)

    def forward(self, tokens: torch.Tensor, state: State, memory: torch.Tensor, mask: torch.Tensor) -> Decoded:
        hidden, state = self.gru(self.embedding(tokens), state)
        context, weights = self.attention(hidden, memory, mask)
        combined = torch.tanh(self.combine(torch.cat([context, hidden], dim=2)))  # equation 5
        return Decoded(self.output(combined), state, weights)


class Seq2Seq(nn.Module):
    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, source: torch.Tensor, lengths: torch.Tensor, tokens: torch.Tensor) -> Decoded:
        """Teacher forcing: `tokens` is the target after START, whatever the network itself would have said."""
        memory, state = self.encoder(source, lengths)
        return self.decoder(tokens, state, memory, source != PAD)

    @torch.no_grad()
    def greedy(
        self, source: torch.Tensor, lengths: torch.Tensor, steps: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The likeliest token at each step, fed back in; after END only PAD.

        Returns:
            Tokens [batch, steps] without START, and the attention's weights if there is one.
        """
        memory, state = self.encoder(source, lengths)
        token = torch.full((len(source), 1), START, device=source.device)
        ended = torch.zeros_like(token, dtype=torch.bool)
        said, looked_at = [], []
        for _ in range(steps):
            logits, state, weights = self.decoder(token, state, memory, source != PAD)
            token = logits.argmax(dim=2).masked_fill(ended, PAD)
            ended = ended | (token == END)
            said.append(token)
            looked_at.append(weights)
        seen = [weights for weights in looked_at if weights is not None]
        return torch.cat(said, dim=1), torch.cat(seen, dim=1) if seen else None
