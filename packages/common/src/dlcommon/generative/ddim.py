"""Denoising diffusion implicit models, DDIM: the same network, sampled in few steps (Song et al. 2021).

https://arxiv.org/abs/2010.02502
"""

import torch

from dlcommon.generative.ddpm import Denoiser
from dlcommon.generative.noise_schedules import NoiseSchedule, TimestepSpacing, sampling_timesteps
from dlcommon.generative.prediction_types import PredictionType, x0_and_noise


def ddim_step(
    prediction: torch.Tensor,
    x_t: torch.Tensor,
    alpha_bar: torch.Tensor,
    previous_alpha_bar: torch.Tensor,
    *,
    noise: torch.Tensor | None = None,
    eta: float = 0.0,
    prediction_type: PredictionType = "epsilon",
    clip: float | None = None,
) -> torch.Tensor:
    """Takes one step from timestep t to any earlier timestep s (equation 12).

    x_s = √ᾱ_s x̂_0 + √(1 − ᾱ_s − σ²) ε̂ + σ z, with σ = eta · √β̃ (equation 16): a part of the predicted noise is
    replaced by new noise. With eta = 0 nothing is drawn; with eta = 1 this is DDPM's step with `fixed_small`.

    Args:
        prediction: the denoiser's output, [batch, ...].
        x_t: noisy data, shaped like `prediction`.
        alpha_bar: ᾱ_t, broadcastable to `x_t`.
        previous_alpha_bar: ᾱ_s, shaped like `alpha_bar`; 1 in the last step.
        noise: z, standard normal, shaped like `x_t`; needed if `eta` is above 0.
        eta: 0 … 1.
        prediction_type: what the denoiser predicts.
        clip: x̂_0 is clipped to −clip … clip, and ε̂ becomes the noise that belongs to the clipped x̂_0.

    Returns:
        x_s, shaped like `x_t`.

    Raises:
        ValueError: `eta` is out of range, or above 0 without `noise`.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be from 0 to 1, not {eta}")
    if eta and noise is None:
        raise ValueError(f"eta {eta} replaces a part of the noise; pass noise")
    x0, epsilon = x0_and_noise(prediction, x_t, alpha_bar, prediction_type)
    if clip is not None:
        x0 = x0.clamp(-clip, clip)
        epsilon = (x_t - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()
    variance = eta**2 * (1 - previous_alpha_bar) / (1 - alpha_bar) * (1 - alpha_bar / previous_alpha_bar)
    x = previous_alpha_bar.sqrt() * x0 + (1 - previous_alpha_bar - variance).clamp(min=0).sqrt() * epsilon
    return x if noise is None else x + variance.sqrt() * noise


@torch.no_grad()
def ddim_sample(
    denoiser: Denoiser,
    noise: torch.Tensor,
    schedule: NoiseSchedule,
    steps: int,
    *,
    eta: float = 0.0,
    prediction_type: PredictionType = "epsilon",
    clip: float | None = None,
    spacing: TimestepSpacing = "trailing",
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Turns noise into samples in `steps` steps; with eta = 0 the same noise always gives the same sample.

    Args:
        denoiser: the model.
        noise: where sampling starts, standard normal, [batch, ...].
        schedule: the schedule that the denoiser was trained with.
        steps: number of steps, each of which calls the denoiser once.
        eta: share of new noise, from 0 (none) to 1 (as DDPM).
        prediction_type: what the denoiser predicts.
        clip: x̂_0 is clipped to −clip … clip; 1 for pictures.
        spacing: which timesteps are visited; see `sampling_timesteps`.
        generator: draws new noise if `eta` is above 0, on the device of `noise`.

    Returns:
        Samples, shaped like `noise`.
    """
    timesteps = sampling_timesteps(len(schedule), steps, spacing)
    x = noise
    for timestep, previous in zip(timesteps, [*timesteps[1:], -1], strict=True):
        fresh = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype) if eta else None
        x = ddim_step(
            denoiser(x, torch.full((len(x),), timestep, device=x.device)),
            x,
            schedule.alpha_bar(timestep, x),
            schedule.alpha_bar(previous, x),
            noise=fresh,
            eta=eta,
            prediction_type=prediction_type,
            clip=clip,
        )
    return x
