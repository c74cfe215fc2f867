"""DPO against trl's values and gradients, and sequence log-probabilities against a sum written out in NumPy."""

import numpy as np
import pytest
import torch
from dlcommon.llm.dpo import dpo_loss, sequence_log_probs

POLICY_CHOSEN, POLICY_REJECTED = (-12.5, -30.25, -4.0, -55.0), (-14.0, -21.5, -4.0, -20.0)
REFERENCE_CHOSEN, REFERENCE_REJECTED = (-13.0, -28.0, -6.5, -50.0), (-13.25, -22.0, -3.5, -40.0)

# Losses, and gradients of their sum with respect to the policy's log-probabilities of the chosen answers, as printed by
# `DPOTrainer.dpo_loss` of trl 0.12.0 in float64 for the four pairs above; the gradients of the rejected answers are the
# same with the sign reversed. trl is not installed with the tests.
RECORDED = {
    (0.1, 0.0): (
        (0.6325990353, 0.8400706677, 0.5543552445, 2.5788897343),
        (-0.0468790627, -0.0568319983, -0.0425557483, -0.0924141820),
    ),
    (0.5, 0.0): (
        (0.4287006783, 1.6004126516, 0.2014132780, 12.5000037266),
        (-0.1743225677, -0.3990933889, -0.0912127619, -0.4999981367),
    ),
    (0.1, 0.1): (
        (0.6450990353, 0.8125706677, 0.5843552445, 2.3288897343),
        (-0.0368790627, -0.0468319983, -0.0325557483, -0.0824141820),
    ),
    (0.5, 0.2): (
        (0.5537006783, 1.3254126516, 0.5014132780, 10.0000037266),
        (-0.0743225677, -0.2990933889, 0.0087872381, -0.3999981367),
    ),
}


def float64(values: tuple[float, ...], requires_grad: bool = False) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=requires_grad)


@pytest.mark.parametrize(("beta", "label_smoothing"), list(RECORDED))
def test_dpo_is_trls_in_value_and_gradient(beta: float, label_smoothing: float) -> None:
    chosen, rejected = float64(POLICY_CHOSEN, True), float64(POLICY_REJECTED, True)
    found = dpo_loss(chosen, rejected, float64(REFERENCE_CHOSEN), float64(REFERENCE_REJECTED), beta, label_smoothing)
    found.loss.sum().backward()
    losses, gradients = (float64(values) for values in RECORDED[beta, label_smoothing])
    torch.testing.assert_close(found.loss, losses, rtol=0, atol=1e-9)  # recorded with ten digits
    torch.testing.assert_close(chosen.grad, gradients, rtol=0, atol=1e-9)
    torch.testing.assert_close(rejected.grad, -gradients, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.chosen_reward, beta * (float64(POLICY_CHOSEN) - float64(REFERENCE_CHOSEN)))
    torch.testing.assert_close(found.rejected_reward, beta * (float64(POLICY_REJECTED) - float64(REFERENCE_REJECTED)))
    assert not found.chosen_reward.requires_grad
    assert not found.rejected_reward.requires_grad


def test_dpo_is_the_formula_written_in_numpy_and_stays_finite_at_large_margins() -> None:
    generator = np.random.default_rng(0)
    chosen, rejected, reference_chosen, reference_rejected = (generator.normal(-20, 5, 50) for _ in range(4))
    policy = torch.from_numpy(chosen), torch.from_numpy(rejected)
    reference = torch.from_numpy(reference_chosen), torch.from_numpy(reference_rejected)
    found = dpo_loss(*policy, *reference, 0.3, 0.1)
    margin = 0.3 * ((chosen - reference_chosen) - (rejected - reference_rejected))
    expected = -0.9 * np.log(1 / (1 + np.exp(-margin))) - 0.1 * np.log(1 - 1 / (1 + np.exp(-margin)))
    np.testing.assert_allclose(found.loss, expected, rtol=1e-10)
    zero = torch.zeros(2)
    assert dpo_loss(torch.tensor([-9000.0, 9000.0]), zero, zero, zero, 1.0).loss.tolist() == [9000.0, 0.0]


def test_at_the_start_the_policy_is_the_reference_and_the_loss_is_log_2() -> None:
    chosen, rejected = float64(POLICY_CHOSEN), float64(POLICY_REJECTED)
    found = dpo_loss(chosen, rejected, chosen, rejected, 0.1)
    torch.testing.assert_close(found.loss, torch.full_like(found.loss, np.log(2)))
    assert found.chosen_reward.abs().max() == 0


def test_smoothed_labels_make_the_loss_smallest_at_a_finite_margin() -> None:
    best, zero = np.log(0.9 / 0.1), torch.zeros(1)

    def loss(margin: float) -> float:
        return dpo_loss(torch.tensor([margin]), zero, zero, zero, 1.0, 0.1).loss.item()

    assert loss(best) < min(loss(best - 0.3), loss(best + 0.3))


def test_sequence_log_probs_sum_the_answers_tokens_each_predicted_by_the_one_before() -> None:
    generator = np.random.default_rng(0)
    logits, tokens = generator.normal(0, 2, (3, 6, 5)), generator.integers(0, 5, (3, 6))
    mask = np.array([[0, 0, 1, 1, 1, 0], [1, 1, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0]], dtype=bool)
    expected = np.zeros(3)
    for row in range(3):
        for token in range(1, 6):  # nothing predicts token 0, so that its mark in the second row counts for nothing
            if mask[row, token]:
                probabilities = np.exp(logits[row, token - 1]) / np.exp(logits[row, token - 1]).sum()
                expected[row] += np.log(probabilities[tokens[row, token]])
    arguments = torch.from_numpy(logits).requires_grad_(), torch.from_numpy(tokens), torch.from_numpy(mask)
    found = sequence_log_probs(*arguments)
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-12)
    assert torch.autograd.gradcheck(lambda each: sequence_log_probs(each, *arguments[1:]), arguments[:1])


def test_half_precision_logits_are_summed_in_float32() -> None:
    torch.manual_seed(0)
    logits, tokens = torch.randn(2, 40, 300).bfloat16(), torch.randint(300, (2, 40))
    found = sequence_log_probs(logits, tokens, torch.ones(2, 40, dtype=torch.bool))
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found, sequence_log_probs(logits.double(), tokens, torch.ones(2, 40, dtype=torch.bool)).float()
    )


@pytest.mark.parametrize(("beta", "label_smoothing", "message"), [(0.0, 0.0, "beta"), (0.1, 0.5, "label_smoothing")])
def test_bad_settings_are_refused(beta: float, label_smoothing: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dpo_loss(torch.zeros(1), torch.zeros(1), torch.zeros(1), torch.zeros(1), beta, label_smoothing)
