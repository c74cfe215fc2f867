"""Autoencoders against principal components, torch's pseudo-inverse and mixtures of Gaussians: values and gradients."""

import pytest
import torch
from dlcommon.generative.autoencoder import (
    Autoencoder,
    denoising_loss,
    denoising_score,
    linear_reconstruction,
    optimal_denoiser,
    optimal_encoder,
    reconstruction_error,
)
from sklearn.decomposition import PCA
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch.nn import functional as F


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradients(output: torch.Tensor, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(output.square().sum(), inputs)


def test_reconstruction_error_is_torchs_mse_times_the_features() -> None:
    reconstructed, samples = random(7, 5).requires_grad_(), random(7, 5, seed=1)
    ours, theirs = reconstruction_error(reconstructed, samples), 5 * F.mse_loss(reconstructed, samples)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradients(ours, reconstructed), gradients(theirs, reconstructed))
    with pytest.raises(ValueError, match=r"\[7, 1\] are not shaped as samples \[7, 5\]"):
        reconstruction_error(reconstructed[:, :1], samples)


def test_linear_reconstruction_is_two_linear_layers() -> None:
    samples, encoder, decoder = (
        random(7, 5).requires_grad_(), random(2, 5, seed=1).requires_grad_(), random(5, 2, seed=2).requires_grad_(),
    )  # fmt: skip
    ours = linear_reconstruction(samples, encoder, decoder)
    theirs = F.linear(F.linear(samples, encoder), decoder)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradients(ours, samples, encoder, decoder), gradients(theirs, samples, encoder, decoder))


def test_optimal_encoder_is_the_pseudo_inverse_and_a_minimum() -> None:
    decoder = random(6, 3).requires_grad_()
    ours, theirs = optimal_encoder(decoder), torch.linalg.pinv(decoder)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradients(ours, decoder), gradients(theirs, decoder))
    samples, encoder = random(50, 6, seed=1), optimal_encoder(decoder).detach().requires_grad_()
    loss = reconstruction_error(linear_reconstruction(samples, encoder, decoder.detach()), samples)
    (gradient,) = torch.autograd.grad(loss, encoder)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))


def test_principal_components_are_the_best_linear_autoencoder_and_other_eigenvectors_a_saddle() -> None:
    samples = random(200, 6) * torch.tensor([3.0, 2.5, 2.0, 1.5, 1.0, 0.5])
    samples = samples - samples.mean(dim=0)
    components = torch.from_numpy(PCA().fit(samples.numpy()).components_)
    variances = (samples @ components.T).square().mean(dim=0)

    def loss_at(decoder: torch.Tensor) -> torch.Tensor:
        return reconstruction_error(linear_reconstruction(samples, optimal_encoder(decoder), decoder), samples)

    for chosen in ([0, 1], [0, 2], [3, 5]):
        decoder = (components[chosen].T @ random(2, 2, seed=3)).requires_grad_()  # any basis of that plane
        loss = loss_at(decoder)
        torch.testing.assert_close(loss, variances.sum() - variances[chosen].sum())
        (gradient,) = torch.autograd.grad(loss, decoder)
        torch.testing.assert_close(gradient, torch.zeros_like(gradient))
        # Turn one direction of the plane a little towards the first component outside of it.
        outside = min(set(range(6)) - set(chosen))
        turned = components[chosen].clone()
        turned[1] = 0.99 * turned[1] + 0.1 * components[outside]
        assert (loss_at(turned.T) < loss) == (outside < chosen[1])


def test_autoencoder_reverses_its_encoder_and_is_linear_without_hidden_layers() -> None:
    model = Autoencoder(9, (7, 5), 2)
    assert [tuple(p.shape) for p in model.parameters() if p.ndim == 2] == [
        (7, 9), (5, 7), (2, 5), (5, 2), (7, 5), (9, 7),
    ]  # fmt: skip
    assert model(torch.zeros(4, 9)).shape == (4, 9)
    linear, x = Autoencoder(9, (), 2).double(), random(2, 9)
    middle, ends = linear(x.mean(dim=0)), linear(x)
    torch.testing.assert_close(middle, ends.mean(dim=0))
    assert not torch.allclose(model.double()(x.mean(dim=0)), model(x).mean(dim=0))


def test_optimal_denoiser_gives_the_score_of_a_mixture_of_gaussians() -> None:
    samples, noisy, std = random(20, 3), random(8, 3, seed=1).requires_grad_(), 0.7
    mixture = MixtureSameFamily(
        Categorical(torch.ones(20, dtype=torch.float64)),
        Independent(Normal(samples, torch.tensor(std, dtype=torch.float64)), 1),
    )
    (score,) = torch.autograd.grad(mixture.log_prob(noisy).sum(), noisy, create_graph=True)
    ours = denoising_score(optimal_denoiser(noisy, samples, std), noisy, std)
    torch.testing.assert_close(ours, score)
    torch.testing.assert_close(gradients(ours, noisy), gradients(score, noisy))


def test_optimal_denoiser_has_the_least_denoising_loss() -> None:
    samples, std = random(5, 2), 0.8
    clean = samples[torch.randint(5, (20_000,), generator=torch.Generator().manual_seed(1))]
    noise = random(20_000, 2, seed=2)

    def loss(scale: float, shift: float) -> float:
        return denoising_loss(lambda x: scale * optimal_denoiser(x, samples, std) + shift, clean, noise, std).item()

    least = loss(1, 0)
    assert least < min(loss(0.9, 0), loss(1.1, 0), loss(1, 0.1), loss(1, -0.1))
    assert least < denoising_loss(lambda x: x, clean, noise, std).item()
    identity = denoising_loss(lambda x: x, clean, noise, std)
    torch.testing.assert_close(identity, std**2 * noise.square().sum(dim=1).mean())
