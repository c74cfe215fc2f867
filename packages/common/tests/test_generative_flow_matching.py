"""Flow matching against diffusers' Euler scheduler and the formula; classifier-free guidance."""

import pytest
import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from dlcommon.generative.flow_matching import flow_matching_loss, flow_sample, interpolate
from dlcommon.generative.guidance import ClassifierFreeGuidance, drop_labels


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_interpolation_is_diffusers_noise() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler()
    x0, noise, times = random(3, 2, 4, 4), random(3, 2, 4, 4, seed=1), torch.tensor([0.25, 0.5, 1.0])
    expected = scheduler.scale_noise(x0, 1000 * times, noise)
    torch.testing.assert_close(interpolate(x0, noise, times), expected)


@pytest.mark.parametrize("steps", [1, 5, 50])
def test_sampling_is_diffusers_euler_method(steps: int) -> None:
    def model(x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return torch.sin(2 * x) + timesteps.view(-1, 1, 1, 1) / 1000

    scheduler, x = FlowMatchEulerDiscreteScheduler(), random(2, 3, 4, 4)
    found = flow_sample(model, x, steps)
    scheduler.set_timesteps(sigmas=[1 - step / steps for step in range(steps)])
    for timestep in scheduler.timesteps:
        x = scheduler.step(model(x, timestep.expand(2)), timestep, x).prev_sample
    torch.testing.assert_close(found, x)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        flow_sample(model, x, 0)


def test_the_loss_and_its_gradient_are_the_formulas() -> None:
    x0, weight = random(6, 2, 4, 4), torch.tensor(0.3, requires_grad=True)
    seen = []

    def model(x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        seen.append((x, timesteps))
        return weight * x

    loss = flow_matching_loss(model, x0, generator=torch.Generator().manual_seed(4))
    ((x_t, timesteps),) = seen
    times = timesteps.view(-1, 1, 1, 1) / 1000
    noise = (x_t - (1 - times) * x0) / times
    error = weight * x_t - (noise - x0)
    torch.testing.assert_close(loss, error.square().mean(), rtol=1e-4, atol=1e-5)
    gradient = (2 * error * x_t).mean()
    torch.testing.assert_close(torch.autograd.grad(loss, weight)[0], gradient, rtol=1e-4, atol=1e-5)
    assert timesteps.min() >= 0
    assert 100 < timesteps.max() <= 1000


def test_a_straight_flow_takes_one_step() -> None:
    target = random(1, 3)

    def velocity(x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return (x - target) * 1000 / timesteps.view(-1, 1)  # all data is one point: every path is straight

    for steps in (1, 2, 8):
        torch.testing.assert_close(flow_sample(velocity, random(5, 3, seed=1), steps), target.expand(5, 3))


def test_labels_are_dropped_with_the_probability() -> None:
    labels = torch.arange(20_000) % 10
    dropped = drop_labels(labels, 10, 0.2, generator=torch.Generator().manual_seed(0))
    share = (dropped == 10).float().mean().item()
    assert abs(share - 0.2) < 0.02
    assert torch.equal(dropped[dropped != 10], labels[dropped != 10])
    assert torch.equal(drop_labels(labels, 10, 0.0), labels)
    assert (drop_labels(labels, 10, 1.0) == 10).all()
    with pytest.raises(ValueError, match="probability must be from 0 to 1"):
        drop_labels(labels, 10, 1.5)


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_guidance_extrapolates_from_the_unconditional_prediction(scale: float) -> None:
    def network(x: torch.Tensor, timesteps: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return x * timesteps[:, None] + labels[:, None].float() ** 2

    x, timesteps, labels = random(4, 3), torch.full((4,), 7), torch.tensor([0, 1, 2, 1])
    conditional = network(x, timesteps, labels)
    unconditional = network(x, timesteps, torch.full((4,), 10))
    weight = scale - 1  # Ho & Salimans' w
    expected = (1 + weight) * conditional - weight * unconditional
    torch.testing.assert_close(ClassifierFreeGuidance(network, labels, 10, scale)(x, timesteps), expected)
