"""Denoising diffusion probabilistic models, DDPM (Ho et al. 2020, https://arxiv.org/abs/2006.11239).

A denoiser maps noisy data [batch, ...] and timesteps [batch] to its prediction, shaped like the data. Timesteps count
from 0, as in `noise_schedules`.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch.nn import functional as F

from dlcommon.generative.noise_schedules import NoiseSchedule, sampling_timesteps
from dlcommon.generative.prediction_types import PredictionType, training_target, x0_and_noise

Denoiser = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
VarianceType = Literal["fixed_small", "fixed_large", "learned_range"]


def diffusion_loss(
    denoiser: Denoiser,
    x0: torch.Tensor,
    schedule: NoiseSchedule,
    *,
    prediction_type: PredictionType = "epsilon",
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Computes the mean squared error of predictions at random timesteps (L_simple, equation 14).

    Args:
        denoiser: the model.
        x0: clean data, [batch, ...], scaled to about unit variance or to −1 … 1.
        schedule: noise of each timestep.
        prediction_type: what the denoiser predicts.
        generator: draws timesteps and noise, on the device of `x0`.

    Returns:
        A scalar.
    """
    timesteps = torch.randint(len(schedule), (len(x0),), generator=generator, device=x0.device)
    noise = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
    target = training_target(x0, noise, schedule.alpha_bar(timesteps, x0), prediction_type)
    return F.mse_loss(denoiser(schedule.add_noise(x0, noise, timesteps), timesteps), target)


def posterior(
    x0: torch.Tensor, x_t: torch.Tensor, alpha_bar: torch.Tensor, previous_alpha_bar: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes mean and variance of q(x_s | x_t, x_0), where s is an earlier timestep (equations 6 and 7).

    Args:
        x0: clean data, [batch, ...].
        x_t: noisy data, shaped like `x0`.
        alpha_bar: ᾱ_t, broadcastable to `x0`.
        previous_alpha_bar: ᾱ_s, shaped like `alpha_bar`; s need not be t − 1.

    Returns:
        The mean, shaped like `x0`, and the variance β̃_t, shaped like `alpha_bar`.
    """
    alpha = alpha_bar / previous_alpha_bar  # of all steps from s to t
    beta = 1 - alpha
    x0_share = previous_alpha_bar.sqrt() * beta / (1 - alpha_bar)
    x_t_share = alpha.sqrt() * (1 - previous_alpha_bar) / (1 - alpha_bar)
    return x0_share * x0 + x_t_share * x_t, (1 - previous_alpha_bar) / (1 - alpha_bar) * beta


def bound_coefficients(
    schedule: NoiseSchedule, variance_type: Literal["fixed_small", "fixed_large"] = "fixed_large"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes how the variational bound follows from errors of the noise (equation 12).

    Its term of timestep t, in nats, is weights[t] · ‖ε − ε̂‖² + constants[t] · dimensions, with the weight
    β² / (2 σ² α (1 − ᾱ)): the KL divergence of the posterior from a step with the variance σ². At timestep 0 it is
    −log p(x_0 | x_1), of a normal density with the variance β. L_simple sets all weights to 1.

    Args:
        schedule: noise of each timestep.
        variance_type: σ² is the posterior's variance β̃ (`fixed_small`) or β (`fixed_large`).

    Returns:
        Weights and constants, each float64 [num_timesteps].
    """
    betas, alphas_cumprod = schedule.betas, schedule.alphas_cumprod
    previous = torch.cat((alphas_cumprod.new_ones(1), alphas_cumprod[:-1]))
    ratio = (1 - previous) / (1 - alphas_cumprod)  # β̃ / β, 0 at timestep 0
    ratio[0] = 1.0
    variance = betas * ratio if variance_type == "fixed_small" else betas
    weights = betas.square() / (2 * variance * (1 - betas) * (1 - alphas_cumprod))
    constants = torch.zeros_like(betas) if variance_type == "fixed_small" else (ratio - 1 - ratio.log()) / 2
    constants[0] = torch.log(2 * math.pi * betas[0]) / 2
    return weights, constants


def ddpm_step(
    prediction: torch.Tensor,
    x_t: torch.Tensor,
    noise: torch.Tensor,
    alpha_bar: torch.Tensor,
    previous_alpha_bar: torch.Tensor,
    *,
    prediction_type: PredictionType = "epsilon",
    variance_type: VarianceType = "fixed_small",
    clip: float | None = None,
) -> torch.Tensor:
    """Draws x_s from p(x_s | x_t) for an earlier timestep s (algorithm 2, line 4).

    Args:
        prediction: the denoiser's output, shaped like `x_t`; [batch, 2 · channels, ...] for `learned_range`.
        x_t: noisy data, [batch, channels, ...].
        noise: standard normal, shaped like `x_t`; unused where s is −1.
        alpha_bar: ᾱ_t, broadcastable to `x_t`.
        previous_alpha_bar: ᾱ_s, shaped like `alpha_bar`; 1 in the last step.
        prediction_type: what the denoiser predicts.
        variance_type: `fixed_small` is β̃, right if the data is a point; `fixed_large` is β, right if it is standard
            normal; `learned_range` lies between the logarithms of both, at (v + 1) / 2 with v the second half
            of the channels (Nichol & Dhariwal 2021, equation 15).
        clip: x̂_0 is clipped to −clip … clip.

    Returns:
        x_s, shaped like `x_t`.
    """
    fraction = None
    if variance_type == "learned_range":
        prediction, fraction = prediction.chunk(2, dim=1)
    x0, _ = x0_and_noise(prediction, x_t, alpha_bar, prediction_type)
    if clip is not None:
        x0 = x0.clamp(-clip, clip)
    mean, small = posterior(x0, x_t, alpha_bar, previous_alpha_bar)
    large = 1 - alpha_bar / previous_alpha_bar
    if fraction is not None:
        share = (fraction + 1) / 2
        variance = torch.exp(share * large.log() + (1 - share) * small.clamp(min=1e-20).log())
    else:
        variance = large if variance_type == "fixed_large" else small
    return mean + torch.where(previous_alpha_bar < 1, variance, 0.0).sqrt() * noise


@torch.no_grad()
def ddpm_sample(
    denoiser: Denoiser,
    noise: torch.Tensor,
    schedule: NoiseSchedule,
    steps: int | None = None,
    *,
    prediction_type: PredictionType = "epsilon",
    variance_type: VarianceType = "fixed_small",
    clip: float | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Turns noise into samples step by step (algorithm 2).

    Args:
        denoiser: the model.
        noise: where sampling starts, standard normal, [batch, ...].
        schedule: the schedule that the denoiser was trained with.
        steps: number of steps; by default all of the schedule's.
        prediction_type: what the denoiser predicts.
        variance_type: variance of each step; see `ddpm_step`.
        clip: x̂_0 is clipped to −clip … clip; 1 for pictures.
        generator: draws the noise of each step, on the device of `noise`.

    Returns:
        Samples, shaped like `noise`.
    """
    timesteps = sampling_timesteps(len(schedule), len(schedule) if steps is None else steps)
    x = noise
    for timestep, previous in zip(timesteps, [*timesteps[1:], -1], strict=True):
        prediction = denoiser(x, torch.full((len(x),), timestep, device=x.device))
        x = ddpm_step(
            prediction,
            x,
            torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype),
            schedule.alpha_bar(timestep, x),
            schedule.alpha_bar(previous, x),
            prediction_type=prediction_type,
            variance_type=variance_type,
            clip=clip,
        )
    return x
