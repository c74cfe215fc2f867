"""The two language models, and the form in which they are evaluated, exported and decoded with.

Shapes: tokens [batch, tokens]; logits [batch, tokens, vocab_size].
"""

import json
from collections.abc import Sequence

import numpy as np
import torch
from dlcommon.rnn.recurrent import LSTM
from dlcommon.runtime.export.graph import ExportGraph
from dlcommon.runtime.saved_run import SavedRun
from dlcommon.transformer.gpt import GPT, GPTConfig
from dlcommon.transformer.kv_cache import KVCache
from torch import nn
from torch.nn import functional as F

from char_lm import tokenizer as tokenizers
from char_lm.config import Config
from char_lm.tokenizer import TOKENIZER, Tokenizer

STATES = {"gpt": ("keys", "values"), "lstm": ("hidden_state", "cell_state")}
"""Names of the tensors that hold what a model has read, the batch first in each."""


class LSTMLanguageModel(nn.Module):
    """Predicts next tokens with an LSTM; the last layer shares the embedding's weights (Press & Wolf 2017)."""

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
        self, tokens: torch.Tensor, position: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Continues after what was read before.

        Args:
            tokens: [batch, tokens], the new ones.
            position: [batch]; an LSTM does not need it.
            state: hidden state and cell state, each [batch, layers, dim].
        """
        # torch's layout of an LSTM's state is [layers, batch, dim]; a graph's has the batch first.
        hidden_state, cell_state = (part.transpose(0, 1).contiguous() for part in state)
        read, (hidden_state, cell_state) = self.lstm(self._embed(tokens), (hidden_state, cell_state))
        return self._logits(read), (hidden_state.transpose(0, 1), cell_state.transpose(0, 1))

    def initial_state(self, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        empty = self.bias.new_zeros(batch, self.lstm.num_layers, self.lstm.hidden_size)
        return empty, empty

    def _embed(self, tokens: torch.Tensor) -> torch.Tensor:
        embedded: torch.Tensor = self.dropout(self.embedding(tokens))
        return embedded

    def _logits(self, read: torch.Tensor) -> torch.Tensor:
        return F.linear(self.dropout(read), self.embedding.weight, self.bias)


def build(config: Config, vocab_size: int) -> GPT | LSTMLanguageModel:
    """Builds the config's model with random weights."""
    if config.model == "lstm":
        return LSTMLanguageModel(vocab_size, config.dim, config.layers, config.dropout)
    shape = GPTConfig(vocab_size, config.context_lengths[-1], config.layers, config.heads, config.dim, config.dropout)
    return GPT(shape)


class Step(nn.Module):
    """Makes one step of decoding a graph: new tokens and a state in, logits and the next state out."""

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
    """Counts the floating-point operations of training on one token: six a weight that multiplies, and attention's own.

    Kaplan et al. 2020 (https://arxiv.org/abs/2001.08361), section 2.1; attention at full length, as it is computed.
    """
    weights = sum(p.numel() for p in network.parameters() if p.dim() == 2)
    if not isinstance(network, GPT):
        return 6 * weights  # the embedding multiplies as well, as the last layer
    shape = network.config
    return 6 * (weights - network.embedding.weight.numel()) + 12 * shape.num_layers * shape.dim * context


def matrices(network: nn.Module) -> Sequence[nn.Parameter]:
    """Returns the matrices inside a GPT's blocks, which Muon trains; an LSTM has none."""
    if not isinstance(network, GPT):
        return []
    return [parameter for parameter in network.blocks.parameters() if parameter.dim() == 2]


def export_graph(saved: SavedRun[Config]) -> ExportGraph:
    """Returns a finished run's network as it is exported: one step of decoding, its state as inputs and outputs."""
    tokenizer = tokenizers.from_json((saved.directory / TOKENIZER).read_text(encoding="utf-8"))
    network = build(saved.config, tokenizer.size)
    network.load_state_dict(saved.weights())
    return decoding_graph(network, saved.config, tokenizer)


def decoding_graph(network: GPT | LSTMLanguageModel, config: Config, tokenizer: Tokenizer) -> ExportGraph:
    """Returns a network as a graph; what a `Decoder` must know is in the metadata."""
    names = STATES[config.model]
    empty = dict(zip(names, network.initial_state(2), strict=True))
    state = {name: np.zeros(part.shape, np.float32) for name, part in empty.items()}
    shapes = {name: list(part.shape[1:]) for name, part in state.items()}
    dynamic = {"tokens": {1: "new"}}
    if config.model == "gpt":  # its state grows with the text
        state = {name: np.zeros((2, *part.shape[1:3], 3, part.shape[4]), np.float32) for name, part in state.items()}
        dynamic |= {name: {3: "past"} for name in names}
    metadata = {
        "tokenizer": tokenizer.to_json(),
        "context": str(config.context_lengths[-1]),
        "state": json.dumps(shapes),
        "network": f"{config.model}, {config.layers} layers of {config.dim}",
    }
    example: dict[str, np.ndarray] = {
        "tokens": np.zeros((2, 2), np.int64),
        "position": np.full(2, 3, np.int64),
        **state,
    }
    outputs = ("logits", *(f"next_{name}" for name in names))
    return ExportGraph(Step(network).eval(), example, outputs, metadata, quantize=False, dynamic=dynamic)
