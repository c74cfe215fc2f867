"""Direct preference optimization: learning from preferences without a reward model (Rafailov et al. 2023).

https://arxiv.org/abs/2305.18290. The policy that maximizes a reward minus β times the KL divergence from a reference is
known in closed form; solved for the reward, it says that every policy is optimal for the reward
β log(π(y | x) / π_ref(y | x)), up to a term of the prompt alone. That implicit reward goes into the Bradley-Terry loss.
"""

from typing import NamedTuple

import torch
from torch.nn import functional as F

from dlcommon.llm.log_probs import sequence_log_probs as sequence_log_probs


class DPOLoss(NamedTuple):
    """Holds the loss of each pair of answers and the two implicit rewards, all [batch]."""

    loss: torch.Tensor
    chosen_reward: torch.Tensor
    """β log(π / π_ref) of the preferred answer, without a gradient."""
    rejected_reward: torch.Tensor
    """The same of the other answer."""


def dpo_loss(
    policy_chosen: torch.Tensor,
    policy_rejected: torch.Tensor,
    reference_chosen: torch.Tensor,
    reference_rejected: torch.Tensor,
    beta: float,
    label_smoothing: float = 0.0,
) -> DPOLoss:
    """Computes −log σ(β log(π/π_ref)(chosen) − β log(π/π_ref)(rejected)), equation 7, for each pair.

    With label smoothing ε it is conservative DPO (Mitchell 2023, https://ericmitchell.ai/cdpo.pdf): each preference is
    taken to be wrong with probability ε, so that the margin stops growing at log((1 − ε) / ε).

    Args:
        policy_chosen: log-probability of the preferred answer under the policy that is trained, [batch], as
            `sequence_log_probs` sums it.
        policy_rejected: of the other answer, [batch].
        reference_chosen: of the preferred answer under the frozen reference, [batch].
        reference_rejected: of the other answer, [batch].
        beta: how strongly the policy is held to the reference; larger holds it closer.
        label_smoothing: probability ε that a label is wrong, from 0 to below 0.5.

    Raises:
        ValueError: `beta` or `label_smoothing` is out of range.
    """
    if beta <= 0:
        raise ValueError(f"beta must be above 0, not {beta}; 0.1 is usual")
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing must be from 0 to below 0.5, not {label_smoothing}")
    chosen_reward = beta * (policy_chosen - reference_chosen)
    rejected_reward = beta * (policy_rejected - reference_rejected)
    margin = chosen_reward - rejected_reward
    loss = -(1 - label_smoothing) * F.logsigmoid(margin) - label_smoothing * F.logsigmoid(-margin)
    return DPOLoss(loss, chosen_reward.detach(), rejected_reward.detach())
