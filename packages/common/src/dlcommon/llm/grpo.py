"""Group relative policy optimization: PPO without a critic (Shao et al. 2024, https://arxiv.org/abs/2402.03300).

Several answers to one prompt are sampled, and each is compared with the mean of its group: that is the baseline for
which PPO trains a second network. With a reward that a program checks (a result, a test, a format) there is no reward
model either.
"""

import torch

from dlcommon.llm.kl_estimators import k3
from dlcommon.llm.ppo import clipped_objective


def group_advantages(rewards: torch.Tensor, scale: bool = True) -> torch.Tensor:
    """Computes how much better each answer is than its group, in standard deviations (section 4.1.2).

    Args:
        rewards: [prompts, answers to each].
        scale: whether to divide by the group's standard deviation. Dividing weighs prompts up that are almost always or
            almost never solved (Liu et al. 2025, https://arxiv.org/abs/2503.20783).

    Returns:
        [prompts, answers]; all 0 where all answers are worth the same, so that such a prompt teaches nothing.
    """
    centered = rewards - rewards.mean(dim=1, keepdim=True)
    return centered / (rewards.std(dim=1, keepdim=True) + 1e-4) if scale else centered


def grpo_loss(
    log_probs: torch.Tensor,
    old_log_probs: torch.Tensor,
    reference_log_probs: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    beta: float = 0.04,
    clip: float = 0.2,
) -> torch.Tensor:
    """Computes minus the mean over answers of the mean over tokens of PPO's objective less β · k3 (equation 3).

    Args:
        log_probs: of the answers' tokens under the policy that is trained, [answers, actions], as `token_log_probs`
            gives them.
        old_log_probs: under the policy that sampled, without a gradient.
        reference_log_probs: under the frozen reference.
        advantages: of each answer, [answers]; all its tokens share it.
        mask: bool [answers, actions], true where the action is a token of the answer.
        beta: weight of the KL penalty, which is part of the loss here, not of the reward.
        clip: ε.

    Returns:
        A scalar.
    """
    objective = clipped_objective(log_probs, old_log_probs, advantages[:, None], clip)
    objective = objective - beta * k3(log_probs, reference_log_probs)
    return -((objective * mask).sum(dim=1) / mask.sum(dim=1)).mean()
