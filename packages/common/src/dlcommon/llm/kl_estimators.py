"""Three estimators of the KL divergence from samples (Schulman 2020, http://joschu.net/blog/kl-approx.html).

KL(π ‖ π_ref) is a sum over all texts, of which only samples y from π are at hand. Each function gives one number for
each sample from the log-probabilities of both models, of whole texts or of single tokens, [...] to [...]; their mean is
the estimate. In what follows, ρ = π_ref(y) / π(y).
"""

import torch


def k1(log_probs: torch.Tensor, reference_log_probs: torch.Tensor) -> torch.Tensor:
    """Computes −log ρ: unbiased, but often negative and of high variance."""
    return log_probs - reference_log_probs


def k2(log_probs: torch.Tensor, reference_log_probs: torch.Tensor) -> torch.Tensor:
    """Computes (log ρ)² / 2: never negative and of low variance, but biased where the models are far apart."""
    return (log_probs - reference_log_probs).square() / 2


def k3(log_probs: torch.Tensor, reference_log_probs: torch.Tensor) -> torch.Tensor:
    """Computes ρ − 1 − log ρ: unbiased and never negative.

    It is k1 plus ρ − 1, whose mean is 0 and which is large where −log ρ is small.
    """
    log_ratio = reference_log_probs - log_probs
    return log_ratio.expm1() - log_ratio
