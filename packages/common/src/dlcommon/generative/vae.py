"""The variational autoencoder (Kingma & Welling 2014), its bound and its tighter relatives, in nats.

A latent z ~ N(0, I) is decoded to the logits of pixels x in {0, 1}; the encoder gives the mean and the log variance of
q(z | x), a Gaussian with independent coordinates. Densities are logarithms, summed over the last axis.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from dlcommon.generative.autoencoder import fully_connected


def reparametrize(mean: torch.Tensor, log_variance: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Draws z = μ + σε from N(μ, σ²) for standard normal noise ε, so that gradients reach μ and σ.

    Args:
        mean: μ, [batch, latent].
        log_variance: log σ², [batch, latent].
        noise: ε, [..., batch, latent].

    Returns:
        [..., batch, latent].
    """
    return mean + (0.5 * log_variance).exp() * noise


def gaussian_kl(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Computes KL(N(μ, σ²) ‖ N(0, 1)) = ½ (μ² + σ² − 1 − log σ²) of each coordinate (appendix B).

    Args:
        mean: μ, [batch, latent].
        log_variance: log σ², [batch, latent].

    Returns:
        [batch, latent]; coordinates are independent, so that their sum is the divergence of z.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def gaussian_log_density(z: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Computes log N(z; μ, σ²), summed over the last axis: [...] from [..., features]."""
    squared = (z - mean).square() * (-log_variance).exp()
    return -0.5 * (squared + log_variance + math.log(2 * math.pi)).sum(dim=-1)


def bernoulli_log_likelihood(logits: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Computes log p(x) of independent pixels in {0, 1} from their logits l: Σ x·l − log(1 + eˡ), [...].

    Args:
        logits: l, [..., pixels].
        x: [..., pixels].
    """
    return (x * logits - F.softplus(logits)).sum(dim=-1)


class ELBO(NamedTuple):
    """Holds the two terms of the evidence lower bound for each image of a batch."""

    log_likelihood: torch.Tensor
    """log p(x | z) of the drawn z, [batch]. Its negative is the distortion."""
    kl: torch.Tensor
    """KL(q(z | x) ‖ p(z)) of each coordinate, [batch, latent]. Its sum is the rate."""

    @property
    def bound(self) -> torch.Tensor:
        """Returns log p(x | z) − KL, [batch], which in the mean over z is at most log p(x)."""
        return self.log_likelihood - self.kl.sum(dim=-1)

    def loss(self, beta: float | torch.Tensor = 1.0) -> torch.Tensor:
        """Computes the mean over the batch of distortion + β · rate; with β = 1 it is −ELBO (Higgins et al. 2017)."""
        return (beta * self.kl.sum(dim=-1) - self.log_likelihood).mean()


class VAE(nn.Module):
    """Encodes binary images as Gaussians over a latent space, and decodes points of it to logits of pixels.

    Args:
        features: number of pixels.
        hidden_sizes: widths of the encoder's hidden layers; the decoder has them in reverse.
        latent: number of latent coordinates.
    """

    def __init__(self, features: int, hidden_sizes: Sequence[int], latent: int) -> None:
        super().__init__()
        self.encoder = fully_connected(features, *hidden_sizes, 2 * latent)
        self.decoder = fully_connected(latent, *reversed(hidden_sizes), features)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Computes mean and log variance of q(z | x), each [batch, latent], of images [batch, pixels]."""
        mean, log_variance = self.encoder(x).chunk(2, dim=-1)
        return mean, log_variance

    def forward(self, x: torch.Tensor, noise: torch.Tensor) -> ELBO:
        """Computes the terms of the bound with one draw of z for each image.

        Args:
            x: [batch, pixels], in {0, 1}.
            noise: standard normal, [batch, latent].
        """
        mean, log_variance = self.encode(x)
        z = reparametrize(mean, log_variance, noise)
        return ELBO(bernoulli_log_likelihood(self.decoder(z), x), gaussian_kl(mean, log_variance))

    def importance_weights(self, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Computes log p(x, z) − log q(z | x) of several draws of z for each image.

        Args:
            x: [batch, pixels], in {0, 1}.
            noise: standard normal, [draws, batch, latent].

        Returns:
            [draws, batch].
        """
        mean, log_variance = self.encode(x)
        z = reparametrize(mean, log_variance, noise)  # [draws, batch, latent]
        prior = gaussian_log_density(z, torch.zeros_like(mean), torch.zeros_like(log_variance))
        likelihood = bernoulli_log_likelihood(self.decoder(z), x)
        return likelihood + prior - gaussian_log_density(z, mean, log_variance)


def importance_weighted_bound(log_weights: torch.Tensor) -> torch.Tensor:
    """Computes log of the mean importance weight, which in the mean lies between the ELBO and log p(x).

    Burda et al. 2016, equation 8: with one draw it is the ELBO, and it never falls with more (theorem 1).

    Args:
        log_weights: log p(x, z) − log q(z | x), [draws, batch].

    Returns:
        [batch].
    """
    return log_weights.logsumexp(dim=0) - math.log(len(log_weights))


def score_function_surrogate(values: torch.Tensor, log_density: torch.Tensor) -> torch.Tensor:
    """Computes a scalar whose gradient estimates that of E[f(z)] without a gradient of f (REINFORCE, Williams 1992).

    ∇ E[f(z)] = E[f(z) ∇ log q(z)]: the values only weight the gradient of the log density.

    Args:
        values: f(z), [draws]; a baseline that does not depend on the draw may have been subtracted.
        log_density: log q(z) at draws z that carry no gradient themselves, [draws].
    """
    return (values.detach() * log_density).mean()


def active_units(means: torch.Tensor, threshold: float = 0.01) -> torch.Tensor:
    """Marks the coordinates whose posterior mean depends on the image: Var over images > threshold (Burda et al. 2016).

    Args:
        means: posterior means of many images, [images, latent].
        threshold: smallest variance that counts.

    Returns:
        bool [latent].
    """
    return means.var(dim=0) > threshold
