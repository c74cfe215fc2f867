"""The Wasserstein distance on a line against scipy and finite differences; clipping; mixtures and their coverage."""

import math

import pytest
import torch
from dlcommon.generative.gaussian_mixtures import grid_centers, mode_coverage, ring_centers, sample_mixture
from dlcommon.generative.wasserstein import clip_weights, wasserstein_distance
from scipy import stats
from torch import nn


def random(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (20, 20), (7, 12), (100, 33), (1, 9)])
def test_equals_scipy_in_value_and_finite_differences_in_gradient(n: int, m: int) -> None:
    x, y = random(n, 0).requires_grad_(), (2 * random(m, 1) + 1).requires_grad_()
    expected = stats.wasserstein_distance(x.detach().numpy(), y.detach().numpy())
    assert wasserstein_distance(x, y).item() == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(wasserstein_distance, (x, y), eps=1e-8, atol=1e-5)


def test_ties_and_a_shift() -> None:
    x = torch.tensor([0.0, 0.0, 1.0, 1.0, 5.0])
    assert wasserstein_distance(x, x.flip(0)).item() == 0
    assert wasserstein_distance(x, x + 3).item() == pytest.approx(3)
    y = torch.tensor([1.0, 0.0, 0.0])
    assert wasserstein_distance(x, y).item() == pytest.approx(stats.wasserstein_distance(x.numpy(), y.numpy()))


def test_what_is_no_list_of_values_is_refused() -> None:
    for bad in (torch.zeros(0), torch.zeros(3, 1)):
        with pytest.raises(ValueError, match=r"values must be \[n\] and \[m\]"):
            wasserstein_distance(bad, torch.zeros(3))


def test_clipping_bounds_every_weight_in_place() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
    before = [parameter.detach().clone() for parameter in network.parameters()]
    clip_weights(network.parameters(), 0.1)
    for parameter, was in zip(network.parameters(), before, strict=True):
        assert torch.equal(parameter, was.clamp(-0.1, 0.1))
        assert parameter.requires_grad
    with pytest.raises(ValueError, match="limit must be positive, not 0"):
        clip_weights(network.parameters(), 0)


def test_centers() -> None:
    torch.testing.assert_close(ring_centers(4, 2.0), torch.tensor([[2.0, 0], [0, 2], [-2, 0], [0, -2]]))
    assert grid_centers(3, 2.0).tolist() == [[x, y] for x in (-2, 0, 2) for y in (-2, 0, 2)]


def test_coverage_of_the_mixture_itself_of_one_mode_and_of_noise() -> None:
    centers, generator = grid_centers(5), torch.Generator().manual_seed(0)
    itself = mode_coverage(sample_mixture(centers, 0.05, 5000, generator), centers, 0.05)
    assert itself.covered == 25
    assert itself.good == pytest.approx(1 - math.exp(-4.5), abs=0.005)  # 3σ in two dimensions
    assert 0 <= itself.reverse_kl < 0.01
    one = mode_coverage(sample_mixture(centers[:1], 0.05, 500, generator), centers, 0.05)
    assert one.covered == 1
    assert one.reverse_kl == pytest.approx(math.log(25))
    far = mode_coverage(torch.full((100, 2), 50.0), centers, 0.05)
    assert (far.covered, far.good) == (0, 0)
    assert math.isnan(far.reverse_kl)
    two = mode_coverage(centers[[0, 0, 0, 1]], centers, 0.05, least=2)
    assert two.covered == 1
