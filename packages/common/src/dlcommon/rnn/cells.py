"""One step in time of an RNN, an LSTM and a GRU, written out.

A cell takes the input and the state before it and returns the state after it; the first part of a state is the
hidden vector that is also the output. Weights are laid out as torch's, so that its own load unchanged: the gates'
blocks lie below each other, and each product with a matrix has a bias of its own.

Shapes: x [batch, inputs], every part of a state [batch, hidden], `input` [gates·hidden, inputs], `recurrent`
[gates·hidden, hidden], both biases [gates·hidden]. ⊙ multiplies element by element, σ is the logistic function.
"""

from typing import NamedTuple, TypeAlias

import torch
from torch.nn import functional as F

State: TypeAlias = tuple[torch.Tensor, ...]
"""(hidden,) of an RNN and a GRU, (hidden, memory) of an LSTM."""


class Weights(NamedTuple):
    """What one direction of one layer learns; `gates` is 1 for an RNN, 4 for an LSTM, 3 for a GRU."""

    input: torch.Tensor
    recurrent: torch.Tensor
    input_bias: torch.Tensor
    recurrent_bias: torch.Tensor


def rnn_cell(x: torch.Tensor, state: State, weights: Weights) -> State:
    """h' = tanh(W x + U h + b) (Elman 1990, https://doi.org/10.1207/s15516709cog1402_1)."""
    (hidden,) = state
    from_input = F.linear(x, weights.input, weights.input_bias)
    from_state = F.linear(hidden, weights.recurrent, weights.recurrent_bias)
    return (torch.tanh(from_input + from_state),)


def lstm_cell(x: torch.Tensor, state: State, weights: Weights) -> State:
    """c' = f ⊙ c + i ⊙ g, h' = o ⊙ tanh(c') (Hochreiter & Schmidhuber 1997; the forget gate: Gers et al. 2000).

    The memory c goes from step to step through a product and a sum only, which is what keeps its gradient alive.
    Blocks of the weights, in order: input gate i, forget gate f, candidate g, output gate o.
    """
    hidden, memory = state
    from_input = F.linear(x, weights.input, weights.input_bias)
    from_state = F.linear(hidden, weights.recurrent, weights.recurrent_bias)
    write, keep, candidate, read = (from_input + from_state).chunk(4, dim=1)
    memory = torch.sigmoid(keep) * memory + torch.sigmoid(write) * torch.tanh(candidate)
    return torch.sigmoid(read) * torch.tanh(memory), memory


def gru_cell(x: torch.Tensor, state: State, weights: Weights) -> State:
    """h' = (1 − z) ⊙ n + z ⊙ h with n = tanh(W x + b + r ⊙ (U h + d)) (Cho et al. 2014).

    As in torch and cuDNN, the reset gate r acts on the product U h; in the first version of the paper
    (https://arxiv.org/abs/1406.1078v1) it acts on h before the product, which no fused kernel computes, and z and
    1 − z are swapped. Blocks of the weights, in order: reset gate r, update gate z, candidate n.
    """
    (hidden,) = state
    reset_x, update_x, candidate_x = F.linear(x, weights.input, weights.input_bias).chunk(3, dim=1)
    reset_h, update_h, candidate_h = F.linear(hidden, weights.recurrent, weights.recurrent_bias).chunk(3, dim=1)
    reset, update = torch.sigmoid(reset_x + reset_h), torch.sigmoid(update_x + update_h)
    candidate = torch.tanh(candidate_x + reset * candidate_h)
    return ((1 - update) * candidate + update * hidden,)
