"""RNN, LSTM and GRU over whole sequences: layers, directions, and lengths that differ within a batch.

The loop over time is written out here, with the cells of `cells.py`. It is also slow: every step of it is a handful
of small operations. So a module hands its weights to torch's fused kernel unless `fused` is turned off; both ways
give the same values and gradients, which the tests hold for every combination (the draws of dropout aside).

Shapes: x [batch, time, inputs]; outputs [batch, time, directions·hidden]; every part of a state
[layers·directions, batch, hidden].
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from dlcommon.rnn.cells import State, Weights, gru_cell, lstm_cell, rnn_cell


class Recurrent(nn.Module):
    """What the three networks share. Parameters have torch.nn's names and shapes: its weights load unchanged.

    Args:
        inputs: features of one step.
        hidden: width of the state.
        layers: how many, each reading the outputs of the one below.
        bidirectional: a second network reads from the end; outputs are both, side by side.
        dropout: share of the outputs zeroed between layers while training.
        fused: compute with torch's kernel rather than with the loop that is written out here.
    """

    gates: ClassVar[int]
    parts: ClassVar[int] = 1
    """How many tensors the state is made of."""
    cell: ClassVar[Callable[..., State]]
    kernel: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        inputs: int,
        hidden: int,
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        fused: bool = True,
    ) -> None:
        super().__init__()
        self.inputs, self.hidden, self.layers, self.dropout, self.fused = inputs, hidden, layers, dropout, fused
        self.directions = 2 if bidirectional else 1
        for layer in range(layers):
            width = inputs if layer == 0 else hidden * self.directions
            for direction in range(self.directions):
                shapes = ((self.gates * hidden, width), (self.gates * hidden, hidden), *[(self.gates * hidden,)] * 2)
                for name, shape in zip(self.names(layer, direction), shapes, strict=True):
                    self.register_parameter(name, nn.Parameter(torch.empty(shape)))
        self.reset_parameters()

    @staticmethod
    def names(layer: int, direction: int) -> tuple[str, ...]:
        """The parameters of one direction of one layer, in the order of `Weights`."""
        suffix = f"l{layer}_reverse" if direction else f"l{layer}"
        return tuple(f"{kind}_{suffix}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))

    def weights(self, layer: int, direction: int = 0) -> Weights:
        return Weights(*(self.get_parameter(name) for name in self.names(layer, direction)))

    def reset_parameters(self) -> None:
        """Uniform within ±1/√hidden, as torch.nn's."""
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(self.hidden), 1 / math.sqrt(self.hidden))

    def zero_state(self, x: torch.Tensor) -> State:
        shape = (self.layers * self.directions, len(x), self.hidden)
        return tuple(x.new_zeros(shape) for _ in range(self.parts))

    def forward(
        self, x: torch.Tensor, state: State | None = None, lengths: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, State]:
        """Outputs of the last layer at every step, and the state after the last step.

        Args:
            x: [batch, time, inputs].
            state: what to start from; zeros by default.
            lengths: int64 [batch], each sequence's own length. Beyond it outputs are zero, the state stays as it
                was at the end, and the second direction starts at the end: padding changes nothing.

        Raises:
            ValueError: the shapes do not fit, or a length is not between 1 and the number of steps.
        """
        if x.dim() != 3 or x.shape[2] != self.inputs:
            raise ValueError(f"expected x of [batch, time, {self.inputs}], got {list(x.shape)}")
        state = self.zero_state(x) if state is None else state
        if lengths is not None and not (
            lengths.shape == x.shape[:1] and ((lengths > 0) & (lengths <= x.shape[1])).all()
        ):
            raise ValueError(f"expected {len(x)} lengths between 1 and {x.shape[1]}, got {lengths.tolist()}")
        if not self.fused:
            return self._written_out(x, state, lengths)
        return self._fused(x, state) if lengths is None else self._fused_packed(x, state, lengths)

    def _written_out(self, x: torch.Tensor, state: State, lengths: torch.Tensor | None) -> tuple[torch.Tensor, State]:
        inside = None
        if lengths is not None:
            inside = torch.arange(x.shape[1], device=x.device) < lengths.to(x.device)[:, None]  # [batch, time]
        ends: list[State] = []
        for layer in range(self.layers):
            outputs = []
            for direction in range(self.directions):
                start = tuple(part[len(ends)] for part in state)
                read, end = self._scan(x, start, self.weights(layer, direction), inside, backwards=direction == 1)
                outputs.append(read)
                ends.append(end)
            x = torch.cat(outputs, dim=2)
            if layer < self.layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        return x, tuple(torch.stack(parts) for parts in zip(*ends, strict=True))

    def _scan(
        self, x: torch.Tensor, state: State, weights: Weights, inside: torch.Tensor | None, backwards: bool
    ) -> tuple[torch.Tensor, State]:
        """One direction of one layer: outputs [batch, time, hidden] and the last state."""
        outputs: list[torch.Tensor] = []
        for time in reversed(range(x.shape[1])) if backwards else range(x.shape[1]):
            after = type(self).cell(x[:, time], state, weights)
            if inside is None:
                state, output = after, after[0]
            else:
                now = inside[:, time, None]
                state = tuple(torch.where(now, new, old) for new, old in zip(after, state, strict=True))
                output = torch.where(now, after[0], 0.0)
            outputs.append(output)
        return torch.stack(outputs[::-1] if backwards else outputs, dim=1), state

    def _arguments(self) -> tuple[list[nn.Parameter], bool, int, float, bool, bool]:
        """Weights, whether there are biases, layers, dropout, training, bidirectional: in the kernels' order."""
        return list(self.parameters()), True, self.layers, self.dropout, self.training, self.directions == 2

    def _fused(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        start = state if self.parts > 1 else state[0]
        outputs, *end = type(self).kernel(x, start, *self._arguments(), True)
        return outputs, tuple(end)

    def _fused_packed(self, x: torch.Tensor, state: State, lengths: torch.Tensor) -> tuple[torch.Tensor, State]:
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        assert packed.sorted_indices is not None  # since they need not come sorted
        assert packed.unsorted_indices is not None
        start = tuple(part.index_select(1, packed.sorted_indices) for part in state)
        read, *end = type(self).kernel(
            packed.data, packed.batch_sizes, start if self.parts > 1 else start[0], *self._arguments()
        )
        read = PackedSequence(read, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        outputs, _ = pad_packed_sequence(read, batch_first=True, total_length=x.shape[1])
        return outputs, tuple(part.index_select(1, packed.unsorted_indices) for part in end)


class RNN(Recurrent):
    """Elman's network, with tanh."""

    gates = 1
    cell = staticmethod(rnn_cell)
    kernel = staticmethod(torch.rnn_tanh)


class LSTM(Recurrent):
    """Long short-term memory; its state is (hidden, memory).

    Args:
        forget_bias: added to the forget gates at the start. With 1 a fresh network remembers (Jozefowicz et al.
            2015, https://proceedings.mlr.press/v37/jozefowicz15.html); torch.nn's has 0.
    """

    gates, parts = 4, 2
    cell = staticmethod(lstm_cell)
    kernel = staticmethod(torch.lstm)

    def __init__(
        self,
        inputs: int,
        hidden: int,
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        fused: bool = True,
        forget_bias: float = 0.0,
    ) -> None:
        self.forget_bias = forget_bias
        super().__init__(inputs, hidden, layers, bidirectional, dropout, fused)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        with torch.no_grad():
            for layer in range(self.layers):
                for direction in range(self.directions):
                    bias = self.weights(layer, direction).recurrent_bias
                    bias[self.hidden : 2 * self.hidden] += self.forget_bias


class GRU(Recurrent):
    """The gated recurrent unit."""

    gates = 3
    cell = staticmethod(gru_cell)
    kernel = staticmethod(torch.gru)
