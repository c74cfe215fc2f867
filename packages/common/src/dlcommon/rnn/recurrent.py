"""RNN, LSTM and GRU over whole sequences: layers, directions, and lengths that differ within a batch.

The loop over time is written out here, with the cells of `cells.py`. It is slow: every step takes a handful of small
operations. So a module hands its weights to torch's fused kernel unless `fused` is turned off. Both ways give the same
values and gradients; the tests compare them in every combination (random draws of dropout aside).

Shapes: x [batch, time, input_size]; outputs [batch, time, directions·hidden_size]; each tensor of a state
[layers·directions, batch, hidden_size].
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from dlcommon.rnn.cells import CellWeights, RecurrentState, gru_cell, lstm_cell, rnn_cell


class RNNBase(nn.Module):
    """Implements what RNN, LSTM and GRU share.

    Parameters have the names and shapes of torch.nn's modules, whose state dicts load unchanged.

    Args:
        input_size: features of one time step.
        hidden_size: features of the hidden state.
        num_layers: number of stacked layers, each reading the outputs of the one below.
        bidirectional: adds to each layer a second one that reads backward; their outputs are concatenated.
        dropout: probability of zeroing an output between two layers while training.
        fused: computes with torch's kernel rather than with the loop written out here.
    """

    num_gates: ClassVar[int]
    num_states: ClassVar[int] = 1
    """Number of tensors in a state."""
    cell: ClassVar[Callable[..., RecurrentState]]
    kernel: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        dropout: float = 0.0,
        fused: bool = True,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.dropout, self.fused = dropout, fused
        self.num_directions = 2 if bidirectional else 1
        rows = self.num_gates * hidden_size
        for layer in range(num_layers):
            columns = input_size if layer == 0 else hidden_size * self.num_directions
            for direction in range(self.num_directions):
                shapes = ((rows, columns), (rows, hidden_size), (rows,), (rows,))
                for name, shape in zip(self.parameter_names(layer, direction), shapes, strict=True):
                    self.register_parameter(name, nn.Parameter(torch.empty(shape)))
        self.reset_parameters()

    @staticmethod
    def parameter_names(layer: int, direction: int) -> tuple[str, ...]:
        """Lists the parameters of one direction of one layer, in the order of `CellWeights`."""
        suffix = f"l{layer}_reverse" if direction else f"l{layer}"
        return tuple(f"{kind}_{suffix}" for kind in CellWeights._fields)

    def cell_weights(self, layer: int, direction: int = 0) -> CellWeights:
        """Returns the weights of one layer's forward (0) or backward (1) direction."""
        return CellWeights(*(self.get_parameter(name) for name in self.parameter_names(layer, direction)))

    def reset_parameters(self) -> None:
        """Draws every parameter uniformly from ±1/√hidden_size, as torch.nn does."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def zero_state(self, x: torch.Tensor) -> RecurrentState:
        """Creates the state of zeros for a batch x [batch, time, input_size]."""
        shape = (self.num_layers * self.num_directions, len(x), self.hidden_size)
        return tuple(x.new_zeros(shape) for _ in range(self.num_states))

    def forward(
        self, x: torch.Tensor, state: RecurrentState | None = None, lengths: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, RecurrentState]:
        """Runs the network over a batch of sequences.

        Args:
            x: [batch, time, input_size].
            state: the initial state; zeros by default.
            lengths: int64 [batch], the number of valid steps of each sequence. Beyond it outputs are zero, the state
                stays as it was at the end, and the backward direction starts at the end: padding changes nothing.

        Returns:
            Outputs of the last layer at every step, [batch, time, directions·hidden_size], and the final state.

        Raises:
            ValueError: the shapes do not fit, or a length is not between 1 and the number of steps.
        """
        if x.dim() != 3 or x.shape[2] != self.input_size:
            raise ValueError(f"expected x of [batch, time, {self.input_size}], got {list(x.shape)}")
        state = self.zero_state(x) if state is None else state
        if lengths is not None and not (
            lengths.shape == x.shape[:1] and ((lengths > 0) & (lengths <= x.shape[1])).all()
        ):
            raise ValueError(f"expected {len(x)} lengths between 1 and {x.shape[1]}, got {lengths.tolist()}")
        if not self.fused:
            return self._forward_loop(x, state, lengths)
        return self._forward_fused(x, state) if lengths is None else self._forward_packed(x, state, lengths)

    def _forward_loop(
        self, x: torch.Tensor, state: RecurrentState, lengths: torch.Tensor | None
    ) -> tuple[torch.Tensor, RecurrentState]:
        valid = None
        if lengths is not None:
            valid = torch.arange(x.shape[1], device=x.device) < lengths.to(x.device)[:, None]  # [batch, time]
        finals: list[RecurrentState] = []  # in torch's order: layer 0 forward, layer 0 backward, layer 1 forward, …
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(self.num_directions):
                initial = tuple(part[len(finals)] for part in state)  # each [batch, hidden_size]
                output, final = self._scan(
                    x, initial, self.cell_weights(layer, direction), valid, backward=direction == 1
                )
                outputs.append(output)
                finals.append(final)
            x = torch.cat(outputs, dim=2)  # [batch, time, directions·hidden_size], the next layer's input
            if layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        return x, tuple(torch.stack(parts) for parts in zip(*finals, strict=True))

    def _scan(
        self,
        x: torch.Tensor,
        state: RecurrentState,
        weights: CellWeights,
        valid: torch.Tensor | None,
        backward: bool,
    ) -> tuple[torch.Tensor, RecurrentState]:
        """Runs one direction of one layer: outputs [batch, time, hidden_size] and the final state."""
        outputs: list[torch.Tensor] = []
        for t in reversed(range(x.shape[1])) if backward else range(x.shape[1]):
            after = type(self).cell(x[:, t], state, weights)
            if valid is None:
                state, output = after, after[0]
            else:
                # Padding is stepped over: the state stays. Reading backward, that is the initial state until the
                # sequence's own last step is reached.
                valid_now = valid[:, t, None]  # [batch, 1]
                state = tuple(torch.where(valid_now, new, old) for new, old in zip(after, state, strict=True))
                output = torch.where(valid_now, after[0], 0.0)
            outputs.append(output)
        return torch.stack(outputs[::-1] if backward else outputs, dim=1), state

    def _kernel_arguments(self) -> tuple[list[nn.Parameter], bool, int, float, bool, bool]:
        """Returns weights, has_biases, num_layers, dropout, train, bidirectional: the order of torch's kernels."""
        return list(self.parameters()), True, self.num_layers, self.dropout, self.training, self.num_directions == 2

    def _forward_fused(self, x: torch.Tensor, state: RecurrentState) -> tuple[torch.Tensor, RecurrentState]:
        initial = state if self.num_states > 1 else state[0]
        outputs, *final = type(self).kernel(x, initial, *self._kernel_arguments(), True)  # True: batch_first
        return outputs, tuple(final)

    def _forward_packed(
        self, x: torch.Tensor, state: RecurrentState, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, RecurrentState]:
        # Packing sorts the sequences by length and drops the padding; the states have to follow that order and back.
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        order, inverse = packed.sorted_indices, packed.unsorted_indices
        assert order is not None
        assert inverse is not None
        sorted_state = tuple(part.index_select(1, order) for part in state)
        initial = sorted_state if self.num_states > 1 else sorted_state[0]
        data, *final = type(self).kernel(packed.data, packed.batch_sizes, initial, *self._kernel_arguments())
        packed_outputs = PackedSequence(data, packed.batch_sizes, order, inverse)
        outputs, _ = pad_packed_sequence(packed_outputs, batch_first=True, total_length=x.shape[1])
        return outputs, tuple(part.index_select(1, inverse) for part in final)


class RNN(RNNBase):
    """Implements Elman's network with tanh; see `RNNBase` for the arguments."""

    num_gates = 1
    cell = staticmethod(rnn_cell)
    kernel = staticmethod(torch.rnn_tanh)


class LSTM(RNNBase):
    """Implements long short-term memory; its state is (hidden state, cell state).

    Args:
        forget_bias: added to the biases of the forget gates at initialization. With 1 a fresh network remembers
            (Jozefowicz et al. 2015, https://proceedings.mlr.press/v37/jozefowicz15.html); torch.nn's has 0. See
            `RNNBase` for the other arguments.
    """

    num_gates, num_states = 4, 2
    cell = staticmethod(lstm_cell)
    kernel = staticmethod(torch.lstm)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        dropout: float = 0.0,
        fused: bool = True,
        forget_bias: float = 0.0,
    ) -> None:
        self.forget_bias = forget_bias  # before super(): it resets the parameters
        super().__init__(input_size, hidden_size, num_layers, bidirectional=bidirectional, dropout=dropout, fused=fused)

    def reset_parameters(self) -> None:
        """Draws the parameters as `RNNBase` does, then adds `forget_bias`."""
        super().reset_parameters()
        with torch.no_grad():
            for layer in range(self.num_layers):
                for direction in range(self.num_directions):
                    bias = self.cell_weights(layer, direction).bias_hh
                    bias[self.hidden_size : 2 * self.hidden_size] += self.forget_bias  # block 1 of i, f, g, o


class GRU(RNNBase):
    """Implements the gated recurrent unit; see `RNNBase` for the arguments."""

    num_gates = 3
    cell = staticmethod(gru_cell)
    kernel = staticmethod(torch.gru)
