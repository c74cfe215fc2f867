"""RNN, LSTM and GRU against torch.nn's: layers, directions, lengths, states, values and gradients."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from dlcommon.rnn.cells import CellWeights, gru_cell, lstm_cell, rnn_cell
from dlcommon.rnn.recurrent import GRU, LSTM, RNN
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

Build = Callable[..., Any]
PAIRS = [
    pytest.param(RNN, nn.RNN, id="rnn"),
    pytest.param(LSTM, nn.LSTM, id="lstm"),
    pytest.param(GRU, nn.GRU, id="gru"),
]
INPUTS, HIDDEN, BATCH, TIME = 3, 5, 4, 7
EXACT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-11}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def build(ours: Build, theirs: Build, layers: int, bidirectional: bool, fused: bool) -> tuple[Any, nn.Module]:
    torch.manual_seed(1)
    reference = theirs(INPUTS, HIDDEN, layers, bidirectional=bidirectional, batch_first=True).double()
    model = ours(INPUTS, HIDDEN, layers, bidirectional=bidirectional, fused=fused).double()
    model.load_state_dict(reference.state_dict())
    return model, reference


def as_tuple(state: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


def gradients(outputs: torch.Tensor, state: tuple[torch.Tensor, ...], wanted: list[torch.Tensor]) -> list[torch.Tensor]:
    """Of a loss in which every output and every part of the last state counts differently."""
    loss = (outputs * random(*outputs.shape, seed=7)).sum()
    loss = loss + sum((part.square() * random(*part.shape, seed=8 + i)).sum() for i, part in enumerate(state))
    return list(torch.autograd.grad(loss, wanted))


@pytest.mark.parametrize("fused", [False, True], ids=["written-out", "fused"])
@pytest.mark.parametrize("with_lengths", [False, True], ids=["whole", "lengths"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "both-ways"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_equals_torch_in_value_and_gradient(
    ours: Build, theirs: Build, layers: int, bidirectional: bool, with_lengths: bool, fused: bool
) -> None:
    model, reference = build(ours, theirs, layers, bidirectional, fused)
    results = []
    for ours_now in (True, False):
        x = random(BATCH, TIME, INPUTS).requires_grad_()
        shape = (layers * (1 + bidirectional), BATCH, HIDDEN)
        start = tuple(random(*shape, seed=2 + part).requires_grad_() for part in range(model.num_states))
        lengths = torch.tensor([4, 7, 1, 5]) if with_lengths else None
        if ours_now:
            outputs, end = model(x, start, lengths)
        else:
            given = start if model.num_states > 1 else start[0]
            if lengths is None:
                outputs, last = reference(x, given)
            else:
                packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
                packed, last = reference(packed, given)
                outputs, _ = pad_packed_sequence(packed, batch_first=True, total_length=TIME)
            end = as_tuple(last)
        network = model if ours_now else reference
        found = gradients(outputs, end, [x, *start, *network.parameters()])
        results.append([outputs.detach(), *(part.detach() for part in end), *found])
    torch.testing.assert_close(results[0], results[1], **EXACT)


@pytest.mark.parametrize(
    ("cell", "reference"),
    [(rnn_cell, nn.RNNCell), (lstm_cell, nn.LSTMCell), (gru_cell, nn.GRUCell)],
    ids=["rnn", "lstm", "gru"],
)
def test_a_cell_equals_torch_in_value_and_gradient(cell: Callable[..., Any], reference: Build) -> None:
    torch.manual_seed(0)
    theirs = reference(INPUTS, HIDDEN).double()
    parts = 2 if cell is lstm_cell else 1
    x = random(BATCH, INPUTS).requires_grad_()
    state = tuple(random(BATCH, HIDDEN, seed=3 + part).requires_grad_() for part in range(parts))
    wanted = [x, *state, *theirs.parameters()]
    ours = cell(x, state, CellWeights(*theirs.parameters()))
    expected = as_tuple(theirs(x, state if parts > 1 else state[0]))
    torch.testing.assert_close(ours, expected, **EXACT)
    torch.testing.assert_close(gradients(ours[0], ours, wanted), gradients(expected[0], expected, wanted), **EXACT)


@pytest.mark.parametrize("model", [RNN, LSTM, GRU])
@pytest.mark.parametrize("fused", [False, True])
def test_padding_changes_nothing(model: Build, fused: bool) -> None:
    torch.manual_seed(0)
    network = model(INPUTS, HIDDEN, num_layers=2, bidirectional=True, fused=fused).double()
    x, lengths = random(3, 6, INPUTS), torch.tensor([2, 6, 4])
    outputs, state = network(x, lengths=lengths)
    for row, length in enumerate(lengths.tolist()):
        alone, end = network(x[row : row + 1, :length])
        torch.testing.assert_close(outputs[row, :length], alone[0], **EXACT)
        assert not outputs[row, length:].any()
        for part, expected in zip(state, end, strict=True):
            torch.testing.assert_close(part[:, row], expected[:, 0], **EXACT)


@pytest.mark.parametrize("model", [RNN, LSTM, GRU])
def test_a_sequence_can_be_read_in_pieces(model: Build) -> None:
    torch.manual_seed(0)
    network, x = model(INPUTS, HIDDEN, num_layers=2).double(), random(BATCH, TIME, INPUTS)
    whole, end = network(x)
    first, state = network(x[:, :3])
    second, state = network(x[:, 3:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, **EXACT)
    torch.testing.assert_close(state, end, **EXACT)


def test_dropout_lies_between_layers_and_acts_in_training_only() -> None:
    torch.manual_seed(0)
    x = random(BATCH, TIME, INPUTS)
    for fused in (False, True):
        two, one = (
            LSTM(INPUTS, HIDDEN, 2, dropout=0.5, fused=fused).double(),
            LSTM(INPUTS, HIDDEN, dropout=0.5).double(),
        )
        assert not torch.equal(two(x)[0], two(x)[0])
        assert torch.equal(one(x)[0], one(x)[0]), "with one layer there is nothing in between"
        two.eval()
        assert torch.equal(two(x)[0], two(x)[0])


def test_forget_bias_opens_the_forget_gates_only() -> None:
    torch.manual_seed(0)
    usual = LSTM(INPUTS, HIDDEN, 2, bidirectional=True)
    torch.manual_seed(0)
    open_gates = LSTM(INPUTS, HIDDEN, 2, bidirectional=True, forget_bias=1.0)
    for name, parameter in open_gates.named_parameters():
        added = parameter - usual.get_parameter(name)
        expected = torch.zeros_like(added)
        if name.startswith("bias_hh"):
            expected[HIDDEN : 2 * HIDDEN] = 1.0
        torch.testing.assert_close(added, expected)


@pytest.mark.parametrize(("model", "gates"), [(RNN, 1), (GRU, 3), (LSTM, 4)])
def test_fresh_weights_are_within_torchs_bounds(model: Build, gates: int) -> None:
    torch.manual_seed(0)
    network = model(INPUTS, 16)
    assert sum(parameter.numel() for parameter in network.parameters()) == gates * 16 * (INPUTS + 16 + 2)
    for parameter in network.parameters():
        assert 0.2 < parameter.abs().max() <= 0.25  # 1/√16


@pytest.mark.parametrize("fused", [False, True])
def test_impossible_shapes_and_lengths_are_refused(fused: bool) -> None:
    network = GRU(INPUTS, HIDDEN, fused=fused).double()
    x = random(BATCH, TIME, INPUTS)
    with pytest.raises(ValueError, match=r"expected x of \[batch, time, 3\], got \[4, 7, 2\]"):
        network(x[:, :, :2])
    for lengths in ([0, 1, 2, 3], [8, 1, 2, 3], [1, 2, 3]):
        with pytest.raises(ValueError, match="4 lengths between 1 and 7"):
            network(x, lengths=torch.tensor(lengths))
