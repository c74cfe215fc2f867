"""Autoencoders: linear ones, which are principal component analysis; with hidden layers; and denoising ones.

Samples are rows, `[batch, features]`; losses are squared distances, summed over features and averaged over samples.
Weights have the shapes of `nn.Linear`: an encoder is `[latent, features]`, a decoder `[features, latent]`.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import nn


def reconstruction_error(reconstructed: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """Computes the squared distance of samples [batch, features] to their reconstructions, in the mean: a scalar.

    Raises:
        ValueError: the shapes differ.
    """
    if reconstructed.shape != samples.shape:  # [batch, 1] against [batch, features] would broadcast
        raise ValueError(f"reconstructions {list(reconstructed.shape)} are not shaped as samples {list(samples.shape)}")
    return (reconstructed - samples).square().sum(dim=-1).mean()


def linear_reconstruction(samples: torch.Tensor, encoder: torch.Tensor, decoder: torch.Tensor) -> torch.Tensor:
    """Encodes and decodes samples [batch, features] by two matrices without biases: D E x for each sample x.

    Args:
        samples: [batch, features], centered.
        encoder: E, [latent, features].
        decoder: D, [features, latent].
    """
    codes = samples @ encoder.T  # [batch, latent]
    return codes @ decoder.T  # [batch, features]


def optimal_encoder(decoder: torch.Tensor) -> torch.Tensor:
    """Computes the encoder that suits a decoder best, its pseudo-inverse (DᵀD)⁻¹Dᵀ.

    Decoding its codes gives the point of the decoder's column space that lies nearest to a sample.

    Args:
        decoder: D, [features, latent], of full column rank.

    Returns:
        [latent, features].
    """
    encoder: torch.Tensor = torch.linalg.solve(decoder.T @ decoder, decoder.T)
    return encoder


def fully_connected(*sizes: int) -> nn.Sequential:
    """Stacks linear layers of these sizes with ReLU between them; the last layer is linear."""
    layers: list[nn.Module] = []
    for in_features, out_features in pairwise(sizes):
        layers += [nn.Linear(in_features, out_features), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Autoencoder(nn.Module):
    """Squeezes samples through a layer of `latent` units and reconstructs them (Hinton & Salakhutdinov 2006).

    Args:
        features: width of a sample.
        hidden_sizes: widths of the encoder's hidden layers; the decoder has them in reverse. Without any, it is linear.
        latent: width of a code.
    """

    def __init__(self, features: int, hidden_sizes: Sequence[int], latent: int) -> None:
        super().__init__()
        self.encoder = fully_connected(features, *hidden_sizes, latent)
        self.decoder = fully_connected(latent, *reversed(hidden_sizes), features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Reconstructs samples [batch, features]."""
        reconstructed: torch.Tensor = self.decoder(self.encoder(x))
        return reconstructed


def denoising_loss(
    denoise: Callable[[torch.Tensor], torch.Tensor], clean: torch.Tensor, noise: torch.Tensor, std: float
) -> torch.Tensor:
    """Computes E‖r(x + σε) − x‖²: the network r sees a corrupted sample, and is asked for the clean one.

    Vincent et al. 2008, with the Gaussian corruption of Alain & Bengio 2014.

    Args:
        denoise: r, maps [batch, features] to the same shape.
        clean: x, [batch, features].
        noise: ε, standard normal, [batch, features].
        std: σ.
    """
    return reconstruction_error(denoise(clean + std * noise), clean)


def optimal_denoiser(noisy: torch.Tensor, samples: torch.Tensor, std: float) -> torch.Tensor:
    """Computes the minimum of `denoising_loss` for clean data that are `samples`, each equally likely: E[x | noisy].

    It is a mean of all samples, weighted by how well each explains the noisy point: softmax(−‖noisy − x‖² / 2σ²).

    Args:
        noisy: [batch, features].
        samples: x, [samples, features].
        std: σ, of the noise.

    Returns:
        [batch, features].
    """
    distances = (noisy[:, None] - samples).square().sum(dim=-1)  # squared, [batch, samples]
    return (-distances / (2 * std**2)).softmax(dim=1) @ samples


def denoising_score(denoised: torch.Tensor, noisy: torch.Tensor, std: float) -> torch.Tensor:
    """Computes (r(x̃) − x̃) / σ², the score ∇ log p_σ(x̃) of the noisy data if the denoiser r is optimal.

    p_σ is the density of the data convolved with N(0, σ²I) (Miyasawa 1961; Vincent 2011). For small σ it is the score
    of the data themselves (Alain & Bengio 2014, theorem 1).

    Args:
        denoised: r(x̃), [batch, features].
        noisy: x̃, [batch, features].
        std: σ.
    """
    return (denoised - noisy) / std**2
