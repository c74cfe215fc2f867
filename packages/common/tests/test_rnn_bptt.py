"""Backpropagation through time by hand against autograd, full and truncated."""

import numpy as np
import pytest
import torch
from dlcommon.rnn.bptt import RNNParameters, backward, cross_entropy, forward, init_parameters

STEPS, BATCH, INPUTS, HIDDEN, OUTPUTS = 9, 3, 4, 5, 6


Problem = tuple[RNNParameters, np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture
def problem() -> Problem:
    random = np.random.default_rng(0)
    weights = init_parameters(INPUTS, HIDDEN, OUTPUTS, random)
    weights = RNNParameters(
        *(weight + 0.3 * random.standard_normal(weight.shape) for weight in weights)
    )  # no bias is zero
    inputs = random.standard_normal((STEPS, BATCH, INPUTS))
    targets = random.integers(0, OUTPUTS, (STEPS, BATCH))
    return weights, inputs, targets, random.standard_normal((BATCH, HIDDEN))


def by_autograd(
    weights: RNNParameters, inputs: np.ndarray, targets: np.ndarray, state: np.ndarray, window: int | None
) -> tuple[float, list[np.ndarray]]:
    """The same network in torch; its state is detached at the borders of the windows."""
    leaves = [torch.tensor(weight, requires_grad=True) for weight in weights]
    weight_ih, weight_hh, bias_h, weight_ho, bias_o = leaves
    hidden, total = torch.tensor(state), torch.zeros((), dtype=torch.float64)
    for time in range(STEPS):
        if window is not None and time % window == 0:
            hidden = hidden.detach()
        hidden = torch.tanh(torch.tensor(inputs[time]) @ weight_ih.T + hidden @ weight_hh.T + bias_h)
        logits = hidden @ weight_ho.T + bias_o
        total = total + torch.nn.functional.cross_entropy(logits, torch.tensor(targets[time])) / STEPS
    return total.item(), [gradient.numpy() for gradient in torch.autograd.grad(total, leaves)]


@pytest.mark.parametrize("window", [None, 1, 2, 4, STEPS, 100])
def test_gradient_equals_autograds(problem: Problem, window: int | None) -> None:
    weights, inputs, targets, state = problem
    trace = forward(weights, inputs, state)
    expected_loss, expected = by_autograd(weights, inputs, targets, state, window)
    np.testing.assert_allclose(cross_entropy(trace, targets), expected_loss, rtol=1e-12)
    for ours, theirs in zip(backward(weights, trace, targets, window), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-13)


def test_a_window_as_long_as_the_sequence_cuts_nothing_and_a_shorter_one_does(problem: Problem) -> None:
    weights, inputs, targets, state = problem
    trace = forward(weights, inputs, state)
    full, same, cut = (backward(weights, trace, targets, window) for window in (None, STEPS, 3))
    np.testing.assert_array_equal(full.weight_hh, same.weight_hh)
    assert np.abs(full.weight_hh - cut.weight_hh).max() > 1e-3
    np.testing.assert_array_equal(full.weight_ho, cut.weight_ho)  # it does not depend on the way back through time


def test_states_are_kept_and_probabilities_are_some(problem: Problem) -> None:
    weights, inputs, _, state = problem
    trace = forward(weights, inputs, state)
    assert trace.hidden_states.shape == (STEPS + 1, BATCH, HIDDEN)
    np.testing.assert_array_equal(trace.hidden_states[0], state)
    np.testing.assert_allclose(trace.probabilities.sum(axis=2), 1)


def test_huge_logits_do_not_overflow(problem: Problem) -> None:
    weights, inputs, _, state = problem
    trace = forward(weights._replace(weight_ho=weights.weight_ho * 1e3), inputs, state)
    assert np.isfinite(trace.probabilities).all()


def test_a_window_without_steps_is_refused(problem: Problem) -> None:
    weights, inputs, targets, state = problem
    with pytest.raises(ValueError, match="at least 1 step, got 0"):
        backward(weights, forward(weights, inputs, state), targets, truncation_length=0)
