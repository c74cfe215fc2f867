"""Losses of generative adversarial networks, for a discriminator that returns logits (a critic: scores).

Each loss is a pair, one half for the discriminator and one for the generator, both to be minimized. Logits are [batch]
or [batch, 1]; every loss is a scalar, the mean over the batch. With D = σ(logit), log D = −softplus(−logit) and
log (1 − D) = −softplus(logit), which neither overflow nor round a probability to 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional as F


def optimal_discriminator(data_density: torch.Tensor, model_density: torch.Tensor) -> torch.Tensor:
    """Computes D* = p / (p + q), the best discriminator of a fixed generator (Goodfellow et al. 2014, proposition 1).

    Where both densities are 0 no sample ever falls, and the value, ½, has no effect.

    Args:
        data_density: p(x) at some points, [...].
        model_density: q(x), the generator's density, at the same points.

    Raises:
        ValueError: the shapes differ, or a density is negative.
    """
    _require_same_shape(data_density, model_density)
    if (data_density < 0).any() or (model_density < 0).any():
        raise ValueError("a density is negative")
    total = data_density + model_density
    return torch.where(total > 0, data_density / total.where(total > 0, 1), 0.5)


def discriminator_loss(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Computes −E log D(x) − E log (1 − D(G(z))): binary cross-entropy (Goodfellow et al. 2014, equation 1)."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def minimax_generator_loss(fake_logits: torch.Tensor) -> torch.Tensor:
    """Computes E log (1 − D(G(z))), the generator's half of equation 1; flat where the discriminator is sure."""
    return -F.softplus(fake_logits).mean()


def non_saturating_generator_loss(fake_logits: torch.Tensor) -> torch.Tensor:
    """Computes −E log D(G(z)): the same fixed point, steep where the discriminator is sure (section 3 of the paper)."""
    return F.softplus(-fake_logits).mean()


def least_squares_discriminator_loss(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Computes ½ E (D(x) − 1)² + ½ E D(G(z))² of outputs without a sigmoid (Mao et al. 2017, equation 9)."""
    return ((real_logits - 1).square().mean() + fake_logits.square().mean()) / 2


def least_squares_generator_loss(fake_logits: torch.Tensor) -> torch.Tensor:
    """Computes ½ E (D(G(z)) − 1)² (Mao et al. 2017, equation 9)."""
    return (fake_logits - 1).square().mean() / 2


def hinge_discriminator_loss(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Computes E max(0, 1 − D(x)) + E max(0, 1 + D(G(z))) (Lim & Ye 2017; Miyato et al. 2018)."""
    return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()


def critic_loss(real_scores: torch.Tensor, fake_scores: torch.Tensor) -> torch.Tensor:
    """Computes E f(G(z)) − E f(x); for a 1-Lipschitz critic, −loss is at most W₁ (Arjovsky et al. 2017, equation 2)."""
    return fake_scores.mean() - real_scores.mean()


def critic_generator_loss(fake_scores: torch.Tensor) -> torch.Tensor:
    """Computes −E f(G(z)), the generator's half of the Wasserstein and of the hinge loss."""
    return -fake_scores.mean()


def relativistic_discriminator_loss(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Computes −E log σ(D(x) − D(G(z))) over pairs: real must look more real than fake (RpGAN).

    Jolicoeur-Martineau 2019 (https://arxiv.org/abs/1807.00734) introduced it; R3GAN (Huang et al. 2024,
    https://arxiv.org/abs/2501.05441) trains with it and both zero-centered penalties.

    Raises:
        ValueError: the shapes differ, so that samples cannot be paired.
    """
    _require_same_shape(real_logits, fake_logits)
    return F.softplus(fake_logits - real_logits).mean()


def relativistic_generator_loss(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Computes −E log σ(D(G(z)) − D(x)): the same pairs with the roles exchanged.

    Raises:
        ValueError: the shapes differ, so that samples cannot be paired.
    """
    return relativistic_discriminator_loss(fake_logits, real_logits)


def _require_same_shape(first: torch.Tensor, second: torch.Tensor) -> None:
    # [batch, 1] against [batch] would broadcast to [batch, batch] and compare each with all.
    if first.shape != second.shape:
        raise ValueError(f"shapes {list(first.shape)} and {list(second.shape)} differ; give as many fakes as reals")


@dataclass(frozen=True)
class GanLoss:
    """Holds both halves of a loss. Both take the real logits first, then the fake ones."""

    discriminator: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    generator: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    relativistic: bool = False
    """Whether the generator's half reads the real logits; otherwise they need not be computed."""


GanLossName = Literal["minimax", "non-saturating", "least-squares", "hinge", "wasserstein", "relativistic"]

GAN_LOSSES: dict[GanLossName, GanLoss] = {
    "minimax": GanLoss(discriminator_loss, lambda _, fake: minimax_generator_loss(fake)),
    "non-saturating": GanLoss(discriminator_loss, lambda _, fake: non_saturating_generator_loss(fake)),
    "least-squares": GanLoss(least_squares_discriminator_loss, lambda _, fake: least_squares_generator_loss(fake)),
    "hinge": GanLoss(hinge_discriminator_loss, lambda _, fake: critic_generator_loss(fake)),
    "wasserstein": GanLoss(critic_loss, lambda _, fake: critic_generator_loss(fake)),
    "relativistic": GanLoss(relativistic_discriminator_loss, relativistic_generator_loss, relativistic=True),
}
