"""Flow matching along straight lines, also known as rectified flow (Lipman et al. 2023; Liu et al. 2023).

https://arxiv.org/abs/2210.02747, https://arxiv.org/abs/2209.03003. x_t = (1 − t) x_0 + t ε goes from data at t = 0 to
noise at t = 1, as in diffusers and Stable Diffusion 3; both papers count time the other way round. The model learns
the velocity dx_t / dt = ε − x_0, and sampling solves that differential equation from t = 1 to 0.
"""

from collections.abc import Callable

import torch
from torch.nn import functional as F

TIMESTEPS = 1000
"""The network is given 1000 · t, so that the embedding of a diffusion model's timesteps serves as it is."""

VelocityModel = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Maps x_t [batch, ...] and 1000 · t, float [batch], to the velocity, shaped like x_t."""


def interpolate(x0: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """Computes x_t = (1 − t) x_0 + t ε.

    Args:
        x0: data, [batch, ...].
        noise: ε, standard normal, shaped like `x0`.
        times: t, from 0 to 1, [batch].
    """
    times = times.view(-1, *[1] * (x0.ndim - 1))
    return (1 - times) * x0 + times * noise


def flow_matching_loss(
    model: VelocityModel, x0: torch.Tensor, *, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Computes the mean squared error of velocities at uniformly random times.

    Args:
        model: predicts the velocity.
        x0: data, [batch, ...], scaled to about unit variance or to −1 … 1.
        generator: draws times and noise, on the device of `x0`.

    Returns:
        A scalar.
    """
    times = torch.rand(len(x0), generator=generator, device=x0.device, dtype=x0.dtype)
    noise = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
    return F.mse_loss(model(interpolate(x0, noise, times), TIMESTEPS * times), noise - x0)


@torch.no_grad()
def flow_sample(model: VelocityModel, noise: torch.Tensor, steps: int) -> torch.Tensor:
    """Solves dx / dt = v(x, t) from t = 1 to 0 in equal steps of Euler's method, each of which calls the model once.

    Args:
        model: predicts the velocity.
        noise: where sampling starts, standard normal, [batch, ...].
        steps: number of steps.

    Returns:
        Samples, shaped like `noise`.

    Raises:
        ValueError: `steps` is not positive.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    x = noise
    for step in range(steps):
        time = 1 - step / steps
        x = x - model(x, torch.full((len(x),), TIMESTEPS * time, device=x.device)) / steps
    return x
