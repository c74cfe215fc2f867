"""One time step of an RNN, an LSTM and a GRU.

A cell maps the input and the state before the step to the state after it; the first tensor of a state is the hidden
state, which is also the output. Weights are laid out as torch's, so that its checkpoints load unchanged: the blocks of
the gates are stacked, and both matrix products have a bias.

Shapes: x [batch, input_size]; each tensor of a state [batch, hidden_size]; weight_ih [gates·hidden_size, input_size];
weight_hh [gates·hidden_size, hidden_size]; bias_ih and bias_hh [gates·hidden_size]. ⊙ is the elementwise product, σ the
logistic function.
"""

from typing import NamedTuple, TypeAlias

import torch
from torch.nn import functional as F

RecurrentState: TypeAlias = tuple[torch.Tensor, ...]
"""(hidden state,) of an RNN and a GRU; (hidden state, cell state) of an LSTM."""


class CellWeights(NamedTuple):
    """Holds the weights of one direction of one layer; there is 1 gate in an RNN, 4 in an LSTM, 3 in a GRU."""

    weight_ih: torch.Tensor
    weight_hh: torch.Tensor
    bias_ih: torch.Tensor
    bias_hh: torch.Tensor


def rnn_cell(x: torch.Tensor, state: RecurrentState, weights: CellWeights) -> RecurrentState:
    """Computes h' = tanh(W x + b + U h + d) (Elman 1990, https://doi.org/10.1207/s15516709cog1402_1)."""
    (hidden,) = state
    from_input = F.linear(x, weights.weight_ih, weights.bias_ih)
    from_hidden = F.linear(hidden, weights.weight_hh, weights.bias_hh)
    return (torch.tanh(from_input + from_hidden),)


class LSTMGates(NamedTuple):
    """Holds the three gates, in 0 to 1, and the candidate, in −1 to 1, of one step; each [batch, hidden_size]."""

    input: torch.Tensor
    forget: torch.Tensor
    candidate: torch.Tensor
    output: torch.Tensor


def lstm_gates(x: torch.Tensor, hidden: torch.Tensor, weights: CellWeights) -> LSTMGates:
    """Computes i, f, g and o of an LSTM from the input x and the hidden state before the step.

    Blocks of the weights, in order: input gate i, forget gate f, candidate g, output gate o. The gates pass through σ,
    the candidate through tanh.
    """
    from_input = F.linear(x, weights.weight_ih, weights.bias_ih)  # [batch, 4·hidden_size]
    from_hidden = F.linear(hidden, weights.weight_hh, weights.bias_hh)
    i, f, g, o = (from_input + from_hidden).chunk(4, dim=1)  # each [batch, hidden_size]
    return LSTMGates(torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o))


def lstm_cell(x: torch.Tensor, state: RecurrentState, weights: CellWeights) -> RecurrentState:
    """Computes c' = f ⊙ c + i ⊙ g and h' = o ⊙ tanh(c') with the gates of `lstm_gates`.

    Hochreiter & Schmidhuber 1997 (https://doi.org/10.1162/neco.1997.9.8.1735); the forget gate: Gers et al. 2000
    (https://doi.org/10.1162/089976600300015015). The cell state c passes from step to step through a product and a
    sum only, which keeps its gradient from vanishing.
    """
    hidden, cell = state
    gates = lstm_gates(x, hidden, weights)
    cell = gates.forget * cell + gates.input * gates.candidate  # [batch, hidden_size]
    hidden = gates.output * torch.tanh(cell)
    return hidden, cell


def gru_cell(x: torch.Tensor, state: RecurrentState, weights: CellWeights) -> RecurrentState:
    """Computes h' = (1 − z) ⊙ n + z ⊙ h with n = tanh(W x + b + r ⊙ (U h + d)) (Cho et al. 2014).

    As in torch, cuDNN and the first version of the paper (https://arxiv.org/abs/1406.1078v1), the reset gate r acts on
    the product U h. In the last version (https://arxiv.org/abs/1406.1078v3) it acts on h before the product, which
    cuDNN's kernel does not compute. Chung et al. 2014 (https://arxiv.org/abs/1412.3555) swap z and 1 − z. Blocks of
    the weights, in order: reset gate r, update gate z, candidate n.
    """
    (hidden,) = state
    # The two products stay apart, since r multiplies only the candidate's share of the second.
    r_x, z_x, n_x = F.linear(x, weights.weight_ih, weights.bias_ih).chunk(3, dim=1)  # each [batch, hidden_size]
    r_h, z_h, n_h = F.linear(hidden, weights.weight_hh, weights.bias_hh).chunk(3, dim=1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x + r * n_h)
    return ((1 - z) * n + z * hidden,)
