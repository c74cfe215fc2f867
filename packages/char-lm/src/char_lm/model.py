"""The two language models, and the form in which they are evaluated, exported and decoded with.

Shapes: tokens [batch, tokens]; logits [batch, tokens, vocab_size].
"""

from collections.abc import Sequence

import torch
from dlcommon.rnn.recurrent import LSTM
from dlcommon.transformer.gpt import GPT, GPTConfig, KVCache
from torch import nn
from torch.nn import functional as F

from char_lm.config import Config

STATES = {"gpt": ("keys", "values"), "lstm": ("hidden", "memory")}
"""Names of the tensors that hold what a model has read, the batch first in each."""


class LSTMLanguageModel(nn.Module):
    """Embedding, LSTM and a linear layer that shares the embedding's weights (Press & Wolf 2017)."""

    def __init__(self, vocab_size: int, dim: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, dim)
        self.dropout = nn.Dropout(dropout)
        self.lstm = LSTM(dim, dim, layers, dropout=dropout, forget_bias=1.0)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        nn.init.normal_(self.embedding.weight, std=dim**-0.5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        read, _ = self.lstm(self._embed(tokens))
        return self._logits(read)

    def step(
        self, tokens: torch.Tensor, position: torch.Tensor, past: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Continues after what was read before.

        Args:
            tokens: [batch, tokens], the new ones.
            position: [batch]; an LSTM does not need it.
            past: hidden state and memory, each [batch, layers, dim].
        """
        hidden, memory = (part.transpose(0, 1).contiguous() for part in past)
        read, (hidden, memory) = self.lstm(self._embed(tokens), (hidden, memory))
        return self._logits(read), (hidden.transpose(0, 1), memory.transpose(0, 1))

    def initial_state(self, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        empty = self.bias.new_zeros(batch, self.lstm.num_layers, self.lstm.hidden_size)
        return empty, empty

    def _embed(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.embedding(tokens))

    def _logits(self, read: torch.Tensor) -> torch.Tensor:
        return F.linear(self.dropout(read), self.embedding.weight, self.bias)


def build(config: Config, vocab_size: int) -> GPT | LSTMLanguageModel:
    """The config's model with random weights."""
    if config.model == "lstm":
        return LSTMLanguageModel(vocab_size, config.dim, config.layers, config.dropout)
    shape = GPTConfig(vocab_size, config.context_lengths[-1], config.layers, config.heads, config.dim, config.dropout)
    return GPT(shape)


class Step(nn.Module):
    """One step of decoding as a graph: new tokens and a state in, logits and the next state out."""

    def __init__(self, network: GPT | LSTMLanguageModel) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, tokens: torch.Tensor, position: torch.Tensor, first: torch.Tensor, second: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        if isinstance(self.network, GPT):
            logits, (first, second) = self.network.step(tokens, position, KVCache(first, second))
        else:
            logits, (first, second) = self.network.step(tokens, position, (first, second))
        return logits.float(), first.float(), second.float()


def training_flops(network: nn.Module, context: int) -> int:
    """Floating-point operations of training on one token: six for each weight that multiplies, and attention's own.

    Kaplan et al. 2020 (https://arxiv.org/abs/2001.08361), section 2.1; attention at full length, as it is computed.
    """
    weights = sum(p.numel() for p in network.parameters() if p.dim() == 2)
    if not isinstance(network, GPT):
        return 6 * weights  # the embedding multiplies as well, as the last layer
    shape = network.config
    return 6 * (weights - network.embedding.weight.numel()) + 12 * shape.num_layers * shape.dim * context


def matrices(network: nn.Module) -> Sequence[nn.Parameter]:
    """The matrices inside a GPT's blocks, which Muon is for; of an LSTM none."""
    if not isinstance(network, GPT):
        return []
    return [parameter for parameter in network.blocks.parameters() if parameter.dim() == 2]
