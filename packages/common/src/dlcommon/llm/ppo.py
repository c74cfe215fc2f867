"""Proximal policy optimization (Schulman et al. 2017, https://arxiv.org/abs/1707.06347), as used on language models.

The text so far is the state, the next token the action, the language model the policy. The reward model's score comes
after the last token; a KL penalty at every token holds the policy to the model that it started from (Ouyang et al.
2022, https://arxiv.org/abs/2203.02155, section 3.5).

Shapes: all [batch, actions]. Action t is token t + 1 of the text, so that there is one action fewer than tokens, as in
`token_log_probs`; `mask` is true where the action is a token of the answer, and answers are in one piece.
"""

import torch


def masked_mean(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Averages over the answers' tokens: [batch, actions] to a scalar."""
    return (x * mask).sum() / mask.sum()


def penalized_rewards(
    scores: torch.Tensor,
    log_probs: torch.Tensor,
    reference_log_probs: torch.Tensor,
    mask: torch.Tensor,
    beta: float,
) -> torch.Tensor:
    """Computes −β (log π − log π_ref) at each token of the answer, and adds the score at its last one.

    Summed over the answer, it is the reward r(x, y) − β log(π(y | x) / π_ref(y | x)), whose mean is the reward less β
    times the KL divergence (Ziegler et al. 2019, https://arxiv.org/abs/1909.08593, equation 2).

    Args:
        scores: of the reward model, [batch].
        log_probs: of the tokens under the policy that sampled them, [batch, actions], without a gradient.
        reference_log_probs: of the same tokens under the frozen reference.
        mask: bool [batch, actions].
        beta: weight of the penalty.
    """
    penalty = -beta * (log_probs - reference_log_probs) * mask
    following = torch.cat((mask[:, 1:], torch.zeros_like(mask[:, :1])), dim=1)
    return penalty + scores[:, None] * (mask & ~following)  # the last token is one that no other follows


def generalized_advantages(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, gamma: float = 1.0, lam: float = 0.95
) -> torch.Tensor:
    """Computes Σ_l (γλ)^l δ_{t+l} with δ_t = r_t + γ V(s_{t+1}) − V(s_t) (Schulman et al. 2016, equation 16).

    https://arxiv.org/abs/1506.02438. λ = 1 waits for the rewards that really came: unbiased, of high variance. λ = 0
    believes the critic about everything after the next token.

    Args:
        rewards: of each action, [batch, actions].
        values: what the critic expects of the rewards to come, before each action, [batch, actions]; no gradient.
        mask: bool [batch, actions]. After the answer nothing is to come.
        gamma: discount of later rewards; 1 for texts.
        lam: λ.

    Returns:
        [batch, actions], 0 where no action belongs to the answer. With `values` added, it is the critic's target.
    """
    rewards, values = rewards * mask, values * mask
    advantages, after, next_value = (
        torch.zeros_like(values),
        torch.zeros_like(values[:, 0]),
        torch.zeros_like(values[:, 0]),
    )
    for t in reversed(range(values.size(1))):
        delta = rewards[:, t] + gamma * next_value - values[:, t]  # [batch]
        after = (delta + gamma * lam * after) * mask[:, t]
        advantages[:, t], next_value = after, values[:, t]
    return advantages


def normalize_advantages(advantages: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Shifts and scales advantages to mean 0 and variance 1 over the answers' tokens of a batch."""
    mean = masked_mean(advantages, mask)
    variance = masked_mean((advantages - mean).square(), mask)
    return (advantages - mean) / (variance + 1e-8).sqrt() * mask


def clipped_objective(
    log_probs: torch.Tensor, old_log_probs: torch.Tensor, advantages: torch.Tensor, clip: float = 0.2
) -> torch.Tensor:
    """Computes min(ρ A, clip(ρ, 1 − ε, 1 + ε) A) of each token, to be maximized (Schulman et al. 2017, equation 7).

    ρ = π(token) / π_old(token). Once a token has become more probable by the factor 1 + ε (or, with a negative
    advantage, less by 1 − ε), its gradient is 0: several updates can be made on one batch of answers. The minimum makes
    the objective a lower bound, so that a move in the wrong direction is never excused.

    Args:
        log_probs: under the policy that is trained, [batch, actions].
        old_log_probs: under the policy that sampled, without a gradient.
        advantages: broadcastable to the same shape, without a gradient.
        clip: ε.
    """
    ratio = (log_probs - old_log_probs).exp()
    return torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
