"""The variational autoencoder's terms against torch.distributions, and its bounds against exact likelihoods."""

import math

import pytest
import torch
from dlcommon.generative.vae import (
    VAE,
    active_units,
    bernoulli_log_likelihood,
    gaussian_kl,
    gaussian_log_density,
    importance_weighted_bound,
    reparametrize,
    score_function_surrogate,
)
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradients(output: torch.Tensor, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(output.square().sum(), inputs, retain_graph=True)


def test_kl_of_gaussians_is_torchs() -> None:
    mean, log_variance = random(7, 3).requires_grad_(), random(7, 3, seed=1).requires_grad_()
    ours = gaussian_kl(mean, log_variance)
    theirs = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradients(ours, mean, log_variance), gradients(theirs, mean, log_variance))


def test_densities_are_torchs() -> None:
    z, mean, log_variance = (random(4, 7, 3, seed=seed).requires_grad_() for seed in range(3))
    ours = gaussian_log_density(z, mean, log_variance)
    theirs = Normal(mean, (0.5 * log_variance).exp()).log_prob(z).sum(dim=-1)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradients(ours, z, mean, log_variance), gradients(theirs, z, mean, log_variance))
    x, logits = (random(7, 5) > 0).double(), (3 * random(4, 7, 5, seed=1)).requires_grad_()
    ours, theirs = bernoulli_log_likelihood(logits, x), Bernoulli(logits=logits).log_prob(x).sum(dim=-1)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradients(ours, logits), gradients(theirs, logits))
    far = bernoulli_log_likelihood(torch.tensor([[-800.0, 800.0]]), torch.tensor([[0.0, 0.0]]))
    assert far.tolist() == [-800.0], "no logarithm of a probability that was rounded to 0"


def test_reparametrized_draws_are_torchs_rsample() -> None:
    mean, log_variance = random(3).requires_grad_(), random(3, seed=1).requires_grad_()
    torch.manual_seed(5)
    theirs = Normal(mean, (0.5 * log_variance).exp()).rsample((10,))
    torch.manual_seed(5)
    ours = reparametrize(mean, log_variance, torch.empty(10, 3, dtype=torch.float64).normal_())
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradients(ours, mean, log_variance), gradients(theirs, mean, log_variance))


def test_both_gradient_estimates_have_the_exact_mean() -> None:
    """Of E[(z − 3)²] = (μ − 3)² + σ², within five standard errors of the score function's."""
    mean, log_variance = (
        torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (1.0, math.log(0.25))
    )
    noise = random(200_000)
    z = reparametrize(mean, log_variance, noise)
    exact = torch.autograd.grad((mean - 3).square() + log_variance.exp(), (mean, log_variance))
    pathwise = torch.autograd.grad((z - 3).square().mean(), (mean, log_variance), retain_graph=True)
    drawn = z.detach()
    log_density = gaussian_log_density(drawn[:, None], mean, log_variance)
    score = torch.autograd.grad(score_function_surrogate((z - 3).square(), log_density), (mean, log_variance))
    each = (drawn - 3).square() * (drawn - mean.detach()) / 0.25  # of the mean
    error = each.std().item() / math.sqrt(len(noise))
    torch.testing.assert_close(pathwise, exact, rtol=0, atol=5 * error)
    torch.testing.assert_close(score, exact, rtol=0, atol=5 * error)
    torch.testing.assert_close(score[0], each.mean())


@pytest.fixture
def vae() -> VAE:
    torch.manual_seed(0)
    return VAE(12, (8,), 2).double()


def test_terms_of_the_bound_are_torchs(vae: VAE) -> None:
    x, noise = (random(7, 12) > 0).double(), random(7, 2, seed=1)
    terms = vae(x, noise)
    mean, log_variance = vae.encoder(x).chunk(2, dim=-1)
    q = Normal(mean, (0.5 * log_variance).exp())
    reconstruction = Bernoulli(logits=vae.decoder(mean + q.stddev * noise)).log_prob(x).sum(dim=-1)
    divergence = kl_divergence(q, Normal(0.0, 1.0))
    torch.testing.assert_close(terms.log_likelihood, reconstruction)
    torch.testing.assert_close(terms.kl, divergence)
    torch.testing.assert_close(terms.bound, reconstruction - divergence.sum(dim=-1))
    for beta in (1.0, 4.0):
        ours = torch.autograd.grad(terms.loss(beta), list(vae.parameters()), retain_graph=True)
        theirs = (beta * divergence.sum(dim=-1) - reconstruction).mean()
        torch.testing.assert_close(ours, torch.autograd.grad(theirs, list(vae.parameters()), retain_graph=True))


def test_bounds_rise_with_draws_to_the_exact_likelihood() -> None:
    """One latent coordinate: log p(x) by adding up a fine grid; the bounds by 4,000 repetitions."""
    torch.manual_seed(0)
    vae = VAE(6, (), 1).double()
    nn.init.normal_(next(vae.decoder.parameters()), std=2.0)
    x = torch.tensor([[1.0, 0, 1, 1, 0, 0]], dtype=torch.float64)
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
    zero = torch.zeros(1, dtype=torch.float64)
    joint = gaussian_log_density(grid, zero, zero) + bernoulli_log_likelihood(vae.decoder(grid), x)
    exact = (joint.logsumexp(dim=0) + math.log(16 / 4000)).item()
    bounds = []
    for draws in (1, 4, 32):
        weights = vae.importance_weights(x.expand(4000, -1), random(draws, 4000, 1, seed=draws))
        bounds.append(importance_weighted_bound(weights).mean().item())
    elbo = vae(x.expand(4000, -1), random(4000, 1, seed=9)).bound.mean().item()
    assert bounds[0] == pytest.approx(elbo, abs=0.1)
    assert bounds[0] < bounds[1] - 0.1 < bounds[2] - 0.1 < exact
    assert exact - bounds[2] < 0.1 * (exact - bounds[0])


def test_one_draw_of_importance_weight_is_an_elbo_without_closed_form(vae: VAE) -> None:
    x, noise = (random(3, 12) > 0).double(), random(1, 3, 2, seed=1)
    mean, log_variance = vae.encode(x)
    z = reparametrize(mean, log_variance, noise[0])
    q = Normal(mean, (0.5 * log_variance).exp())
    expected = vae(x, noise[0]).log_likelihood + (Normal(0.0, 1.0).log_prob(z) - q.log_prob(z)).sum(dim=-1)
    torch.testing.assert_close(importance_weighted_bound(vae.importance_weights(x, noise)), expected)


def test_units_whose_posterior_ignores_the_image_are_not_active() -> None:
    means = torch.stack((random(100), 0.05 * random(100, seed=1), torch.full((100,), 2.0).double()), dim=1)
    assert active_units(means).tolist() == [True, False, False]
    assert active_units(means, threshold=1e-4).tolist() == [True, True, False]
