"""Reward model, PPO, GRPO and KL estimators against their formulas in NumPy, and against exact expectations."""

from typing import Any

import numpy as np
import pytest
import torch
from dlcommon.llm.grpo import group_advantages, grpo_loss
from dlcommon.llm.kl_estimators import k1, k2, k3
from dlcommon.llm.llama import Llama, LlamaConfig
from dlcommon.llm.log_probs import token_log_probs
from dlcommon.llm.ppo import (
    clipped_objective,
    generalized_advantages,
    masked_mean,
    normalize_advantages,
    penalized_rewards,
)
from dlcommon.llm.reward_model import RewardModel, bradley_terry_loss
from dlcommon.llm.rollouts import sample_answers

# Answers of 3, 1 and 4 tokens, each after a prompt.
MASK = np.array([[0, 0, 1, 1, 1, 0], [0, 0, 1, 0, 0, 0], [0, 1, 1, 1, 1, 0]], dtype=bool)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    values: np.ndarray = np.random.default_rng(seed).normal(size=shape)
    return values


def tensors(*arrays: np.ndarray) -> Any:
    return tuple(torch.from_numpy(array) for array in arrays)


def tiny(vocab_size: int = 7, seed: int = 0) -> Llama:
    torch.manual_seed(seed)
    model = Llama(LlamaConfig(vocab_size, 16, 2, 2, 1, 8, 32)).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 0.0), (0.97, 1.0)])
def test_advantages_are_the_sum_of_discounted_temporal_differences(gamma: float, lam: float) -> None:
    rewards, values = normal(3, 6), normal(3, 6, seed=1)
    expected = np.zeros((3, 6))
    for row in range(3):
        actions = np.flatnonzero(MASK[row])
        for first in actions:
            for step, t in enumerate(range(first, actions[-1] + 1)):
                following = values[row, t + 1] if t < actions[-1] else 0.0
                delta = rewards[row, t] + gamma * following - values[row, t]
                expected[row, first] += (gamma * lam) ** step * delta
    found = generalized_advantages(
        torch.from_numpy(rewards), torch.from_numpy(values), torch.from_numpy(MASK), gamma, lam
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_with_lambda_1_the_critics_target_is_what_came_and_with_0_one_step_and_then_the_critic() -> None:
    rewards, values, mask = tensors(normal(3, 6), normal(3, 6, seed=1), MASK)
    target = generalized_advantages(rewards, values, mask, lam=1.0) + values * mask
    to_come = (rewards * mask).flip(1).cumsum(1).flip(1) * mask
    torch.testing.assert_close(target, to_come)
    one_step = generalized_advantages(rewards, values, mask, lam=0.0)
    torch.testing.assert_close(one_step[0, 2], rewards[0, 2] + values[0, 3] - values[0, 2])
    torch.testing.assert_close(one_step[0, 4], rewards[0, 4] - values[0, 4])


def test_rewards_sum_to_the_score_less_the_log_ratio_and_the_score_comes_last() -> None:
    scores, log_probs, reference = normal(3), normal(3, 6, seed=1), normal(3, 6, seed=2)
    of_scores, of_policy, of_reference, mask = tensors(scores, log_probs, reference, MASK)
    found = penalized_rewards(of_scores, of_policy, of_reference, mask, 0.3).numpy()
    np.testing.assert_allclose(found.sum(1), scores - 0.3 * ((log_probs - reference) * MASK).sum(1), rtol=1e-12)
    without = penalized_rewards(of_scores, of_policy, of_reference, mask, 0.0).numpy()
    assert [row.nonzero()[0].tolist() for row in without] == [[4], [2], [4]]


def test_the_clipped_objective_is_the_papers_case_by_case_in_value_and_gradient() -> None:
    log_probs, old, advantages = normal(40) * 0.3, normal(40, seed=1) * 0.3, normal(40, seed=2)
    log_ratio = log_probs - old
    ratio, expected, gradient = np.exp(log_ratio), np.zeros(40), np.zeros(40)
    for i in range(40):  # figure 1 of the paper: constant beyond 1.2 if A > 0, and below 0.8 if A < 0
        flat = ratio[i] > 1.2 if advantages[i] > 0 else ratio[i] < 0.8
        bound = 1.2 if advantages[i] > 0 else 0.8
        expected[i] = (bound if flat else ratio[i]) * advantages[i]
        gradient[i] = 0.0 if flat else ratio[i] * advantages[i]
    trained = torch.from_numpy(log_probs).requires_grad_()
    found = clipped_objective(trained, *tensors(old, advantages))
    found.sum().backward()
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-12)
    torch.testing.assert_close(trained.grad, torch.from_numpy(gradient), rtol=1e-12, atol=1e-14)
    assert 5 < (gradient == 0).sum() < 35


def test_normalized_advantages_have_mean_0_and_variance_1_over_the_answers() -> None:
    advantages, mask = tensors(3 + 2 * normal(3, 6), MASK)
    found = normalize_advantages(advantages, mask)
    of_answers = found[mask]
    np.testing.assert_allclose([of_answers.mean(), of_answers.var(unbiased=False)], [0, 1], atol=1e-7)
    assert not found[~mask].any()
    assert masked_mean(found, mask).abs() < 1e-12


def test_grpo_is_equation_3_written_in_numpy_in_value_and_gradient() -> None:
    log_probs, old, reference = (0.4 * normal(3, 6, seed=seed) for seed in range(3))
    advantages = np.array([0.7, -1.3, 0.4])

    def formula(log_probs: np.ndarray) -> float:
        total = 0.0
        for row in range(3):
            of_answer = []
            for t in np.flatnonzero(MASK[row]):
                ratio = np.exp(log_probs[row, t] - old[row, t])
                objective = min(ratio * advantages[row], np.clip(ratio, 0.8, 1.2) * advantages[row])
                rho = np.exp(reference[row, t] - log_probs[row, t])
                of_answer.append(objective - 0.04 * (rho - np.log(rho) - 1))
            total += np.mean(of_answer) / 3
        return -total

    trained = torch.from_numpy(log_probs).requires_grad_()
    loss = grpo_loss(trained, *tensors(old, reference, advantages, MASK))
    loss.backward()
    np.testing.assert_allclose(loss.item(), formula(log_probs), rtol=1e-12)
    numerical = np.zeros((3, 6))
    for place in np.ndindex(3, 6):
        moved = np.zeros((3, 6))
        moved[place] = 1e-6
        numerical[place] = (formula(log_probs + moved) - formula(log_probs - moved)) / 2e-6
    torch.testing.assert_close(trained.grad, torch.from_numpy(numerical), rtol=0, atol=1e-8)


def test_group_advantages_are_standard_scores_and_0_where_all_answers_are_alike() -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    found = group_advantages(rewards)
    torch.testing.assert_close(found[0], (rewards[0] - 0.25) / 0.5, rtol=1e-3, atol=1e-3)
    assert found[1].tolist() == [0.0] * 4
    assert group_advantages(rewards, scale=False)[0].tolist() == [0.75, -0.25, -0.25, -0.25]


def test_k1_and_k3_are_unbiased_and_k2_is_not() -> None:
    policy, reference = normal(50), normal(50, seed=1)
    log_p = policy - np.log(np.exp(policy).sum())
    log_q = reference - np.log(np.exp(reference).sum())
    divergence = (np.exp(log_p) * (log_p - log_q)).sum()
    estimates = [(np.exp(log_p) * each(*tensors(log_p, log_q)).numpy()).sum() for each in (k1, k2, k3)]
    np.testing.assert_allclose(estimates[0], divergence, rtol=1e-12)
    np.testing.assert_allclose(estimates[2], divergence, rtol=1e-12)
    assert abs(estimates[1] - divergence) > 0.05
    assert (k3(*tensors(log_p, log_q)) >= 0).all()
    assert (k1(*tensors(log_p, log_q)) < 0).any()


def test_bradley_terry_is_the_negative_log_of_the_probability_of_the_choice() -> None:
    chosen, rejected = normal(20), normal(20, seed=1)
    expected = -np.log(np.exp(chosen) / (np.exp(chosen) + np.exp(rejected)))
    np.testing.assert_allclose(bradley_terry_loss(*tensors(chosen, rejected)), expected, rtol=1e-12)
    shifted = bradley_terry_loss(*tensors(chosen + 5, rejected + 5))
    np.testing.assert_allclose(shifted, expected, rtol=1e-10)


def test_a_reward_model_starts_at_0_and_scores_the_last_token_before_the_padding() -> None:
    model, tokens = RewardModel(tiny()).double(), torch.tensor([[1, 2, 3, 0, 0], [4, 5, 6, 1, 2]])
    assert not model(tokens).any()
    torch.nn.init.normal_(model.score.weight)
    found = model(tokens, torch.tensor([3, 5]))
    torch.testing.assert_close(found[:1], model(tokens[:1, :3]))
    torch.testing.assert_close(found[1:], model(tokens[1:]))
    torch.testing.assert_close(model.token_scores(tokens)[:, 2], model(tokens[:, :3]))


def test_sampled_answers_have_the_models_distribution() -> None:
    model, prompt = tiny(4), torch.tensor([[1, 2]])
    rollouts = sample_answers(model, prompt.repeat(20_000, 1), 2, torch.Generator().manual_seed(0))
    assert rollouts.tokens.shape == rollouts.mask.shape == (20_000, 4)
    assert rollouts.mask[0].tolist() == [False, False, True, True]
    texts = torch.cat((prompt.repeat(16, 1), torch.cartesian_prod(torch.arange(4), torch.arange(4))), dim=1)
    expected = 20_000 * token_log_probs(model(texts), texts)[:, 1:].sum(1).exp().detach()
    counts = torch.bincount(rollouts.tokens[:, 2] * 4 + rollouts.tokens[:, 3], minlength=16)
    assert expected.sum().item() == pytest.approx(20_000)
    assert ((counts - expected).square() / expected).sum() < 37.7  # the 99.9 % quantile of chi-square, 15 degrees


def test_an_answer_ends_with_its_first_end_token() -> None:
    rollouts = sample_answers(tiny(3), torch.full((200, 1), 1), 6, torch.Generator().manual_seed(0), end_token=0)
    lengths = set()
    for tokens, mask in zip(rollouts.tokens[:, 1:].tolist(), rollouts.mask[:, 1:].tolist(), strict=True):
        length = tokens.index(0) + 1 if 0 in tokens else 6
        assert mask == [place < length for place in range(6)]
        assert not any(tokens[length:])
        lengths.add(length)
    assert {1, 2, 6} <= lengths
