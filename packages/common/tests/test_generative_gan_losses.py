"""Adversarial losses against torch's and the formulas of their papers, in value and gradient, in float64."""

import math

import pytest
import torch
from dlcommon.generative.gan_losses import (
    GAN_LOSSES,
    GanLossName,
    optimal_discriminator,
    relativistic_discriminator_loss,
)
from torch.nn import functional as F


def logits(seed: int, count: int = 50) -> torch.Tensor:
    values = torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (3 * values).requires_grad_()


def cross_entropy(values: torch.Tensor, target: float) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(values, torch.full_like(values, target))


def reference(name: GanLossName, real: torch.Tensor, fake: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both halves of each loss, with torch's own losses or as the paper writes them."""
    adversarial = cross_entropy(real, 1.0) + cross_entropy(fake, 0.0)
    ones, zeros = torch.ones_like(real), torch.zeros_like(real)
    expected: dict[GanLossName, tuple[torch.Tensor, torch.Tensor]] = {
        "minimax": (adversarial, (1 - fake.sigmoid()).log().mean()),
        "non-saturating": (adversarial, cross_entropy(fake, 1.0)),
        "least-squares": ((F.mse_loss(real, ones) + F.mse_loss(fake, zeros)) / 2, F.mse_loss(fake, ones) / 2),
        # Miyato et al. 2018 maximize E min(0, −1 + D(x)) + E min(0, −1 − D(G(z))).
        "hinge": (-torch.minimum(zeros, real - 1).mean() - torch.minimum(zeros, -1 - fake).mean(), -fake.mean()),
        "wasserstein": (fake.mean() - real.mean(), -fake.mean()),
        "relativistic": (-F.logsigmoid(real - fake).mean(), -F.logsigmoid(fake - real).mean()),
    }
    return expected[name]


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_both_halves_equal_the_reference_in_value_and_gradient(name: GanLossName) -> None:
    real, fake = logits(0), logits(1)
    loss = GAN_LOSSES[name]
    for half, expected in zip((loss.discriminator, loss.generator), reference(name, real, fake), strict=True):
        found = half(real, fake)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        gradients = [torch.autograd.grad(each, (real, fake), allow_unused=True) for each in (found, expected)]
        torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_only_a_relativistic_generator_reads_the_real_logits(name: GanLossName) -> None:
    real, fake = logits(0), logits(1)
    (gradient,) = (
        torch.autograd.grad(GAN_LOSSES[name].generator(real, fake), (real,), allow_unused=True)
        if (GAN_LOSSES[name].generator(real, fake).requires_grad)
        else (None,)
    )
    assert (gradient is not None) == GAN_LOSSES[name].relativistic


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_logits_of_a_sure_discriminator_stay_finite(name: GanLossName) -> None:
    real, fake = torch.tensor([300.0], requires_grad=True), torch.tensor([-300.0], requires_grad=True)
    for half in (GAN_LOSSES[name].discriminator, GAN_LOSSES[name].generator):
        loss = half(real, fake)
        loss.backward()
        assert math.isfinite(loss.item())
    assert fake.grad is not None
    assert fake.grad.isfinite().all()


def test_a_sure_discriminator_starves_the_minimax_generator_only() -> None:
    fake = torch.tensor([-10.0], requires_grad=True)
    slopes = {
        name: torch.autograd.grad(GAN_LOSSES[name].generator(fake, fake), fake)[0].item()
        for name in ("minimax", "non-saturating")
    }
    assert slopes["minimax"] == pytest.approx(-4.54e-5, rel=1e-2)  # −σ(−10)
    assert slopes["non-saturating"] == pytest.approx(-1, rel=1e-3)


def test_relativistic_pairs_must_match() -> None:
    with pytest.raises(ValueError, match=r"\[4, 1\] and \[4\] differ; give as many fakes as reals"):
        relativistic_discriminator_loss(torch.zeros(4, 1), torch.zeros(4))


def test_optimal_discriminator_minimizes_the_loss_at_every_point() -> None:
    """Numerically: no other value on a fine grid has a lower cross-entropy −p log D − q log (1 − D)."""
    p, q = torch.tensor([0.7, 0.2, 0.05, 0.0]).double(), torch.tensor([0.1, 0.2, 0.6, 0.3]).double()
    values = torch.linspace(1e-6, 1 - 1e-6, 100_001).double()
    losses = -p[:, None] * values.log() - q[:, None] * (1 - values).log()
    torch.testing.assert_close(optimal_discriminator(p, q), values[losses.argmin(dim=1)], rtol=0, atol=1e-5)


def test_optimal_discriminator_without_any_density_and_bad_input() -> None:
    assert optimal_discriminator(torch.zeros(1), torch.zeros(1)).item() == 0.5
    with pytest.raises(ValueError, match="density is negative"):
        optimal_discriminator(torch.tensor([-1.0]), torch.tensor([1.0]))
    with pytest.raises(ValueError, match="differ"):
        optimal_discriminator(torch.zeros(2), torch.zeros(3))
