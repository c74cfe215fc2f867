"""Gradient penalties against gradients that are known in closed form, in value and in their own gradient."""

from collections.abc import Callable

import pytest
import torch
from dlcommon.generative.gradient_penalties import (
    input_gradient_norms,
    input_gradients,
    interpolate,
    one_centered_penalty,
    wgan_gp_penalty,
    zero_centered_penalty,
)
from torch import nn


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Quadratic(nn.Module):
    """Scores ½ xᵀ A x + bᵀ x, whose gradient is ½ (A + Aᵀ) x + b."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(random(12, 12, seed=1)), nn.Parameter(random(12, seed=2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(1)
        return (flat @ self.a * flat).sum(dim=1) / 2 + flat @ self.b

    def slope(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) @ (self.a + self.a.T) / 2 + self.b


Penalty = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
PENALTIES: dict[str, tuple[Penalty, Callable[[torch.Tensor], torch.Tensor]]] = {
    "zero-centered": (zero_centered_penalty, lambda slope: slope.square().sum(dim=1).mean()),
    "one-centered": (one_centered_penalty, lambda slope: (slope.square().sum(dim=1).sqrt() - 1).square().mean()),
}


@pytest.mark.parametrize("name", PENALTIES)
def test_penalties_equal_the_closed_form_in_value_and_gradient(name: str) -> None:
    penalty, closed_form = PENALTIES[name]
    network, images = Quadratic(), random(5, 3, 2, 2).requires_grad_()
    found, expected = penalty(network(images), images), closed_form(network.slope(images))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    # Double backward: the penalty's gradient for the weights, which is what training uses.
    torch.testing.assert_close(
        torch.autograd.grad(found, tuple(network.parameters())),
        torch.autograd.grad(expected, tuple(network.parameters())),
        rtol=1e-9,
        atol=1e-12,
    )


@pytest.mark.parametrize("name", PENALTIES)
def test_double_backward_through_a_network_equals_finite_differences(name: str) -> None:
    penalty, _ = PENALTIES[name]
    torch.manual_seed(0)
    convolution = nn.Conv2d(1, 3, 3)
    network = nn.Sequential(convolution, nn.Softplus(), nn.Flatten(), nn.Linear(12, 1)).double()
    images = random(3, 1, 4, 4).requires_grad_()

    def value(weight: torch.Tensor) -> torch.Tensor:
        logits = torch.func.functional_call(network, {"0.weight": weight}, (images,))
        return penalty(logits, images)

    weight = convolution.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(value, (weight,), eps=1e-6, atol=1e-6)


def test_wgan_gp_is_the_one_centered_penalty_between_the_samples() -> None:
    network, real, fake = Quadratic(), random(6, 12), random(6, 12, seed=3)
    found = wgan_gp_penalty(network, real, fake, torch.Generator().manual_seed(5))
    points = interpolate(real, fake, torch.Generator().manual_seed(5))
    slope = network.slope(points)
    torch.testing.assert_close(found, (slope.norm(dim=1) - 1).square().mean(), rtol=1e-10, atol=0)


def test_interpolation_draws_one_share_for_each_sample_and_cuts_the_graph() -> None:
    real, fake = torch.zeros(1000, 1, 2, 2), torch.ones(1000, 1, 2, 2, requires_grad=True)
    points = interpolate(real, fake, torch.Generator().manual_seed(0))
    assert points.is_leaf
    assert points.requires_grad
    shares = points.detach().flatten(1)
    assert torch.equal(shares.amin(dim=1), shares.amax(dim=1))
    assert 0 <= shares.min() < 0.01 < 0.99 < shares.max() <= 1
    assert abs(shares.mean().item() - 0.5) < 0.03


def test_norms_are_each_samples_own_and_have_a_gradient_where_the_slope_is_0() -> None:
    samples, weight = random(4, 3).requires_grad_(), torch.zeros(3, dtype=torch.float64, requires_grad=True)
    logits = samples @ weight
    assert input_gradient_norms(logits, samples).tolist() == [0, 0, 0, 0]
    (gradient,) = torch.autograd.grad(one_centered_penalty(logits, samples), weight)
    assert gradient.tolist() == [0, 0, 0]  # and not nan
    squares = samples.square().sum(dim=1, keepdim=True)
    torch.testing.assert_close(input_gradient_norms(squares, samples), 2 * samples.norm(dim=1))


def test_what_has_no_gradient_of_its_own_is_refused() -> None:
    samples = torch.zeros(4, 3)
    with pytest.raises(ValueError, match="requires_grad_"):
        input_gradients(samples.sum(dim=1), samples)
    samples.requires_grad_()
    with pytest.raises(ValueError, match="8 logits for 4 samples"):
        input_gradients(samples[:, :2], samples)
    with pytest.raises(ValueError, match="differ in shape"):
        interpolate(torch.zeros(4, 3), torch.zeros(3, 3))
