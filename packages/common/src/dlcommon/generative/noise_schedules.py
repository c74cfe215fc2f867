"""Noise schedules of diffusion models: how much of the data is left after t steps of noise.

Timesteps count from 0, as in diffusers: timestep t is the paper's t + 1, and timestep −1 is the clean data. β_t is the
variance of the noise that step t adds, α_t = 1 − β_t, and ᾱ_t = α_0 · … · α_t is the share of the data's variance that
is left.
"""

import math
from typing import Literal

import torch

TimestepSpacing = Literal["leading", "trailing"]


def linear_betas(num_timesteps: int = 1000, start: float = 1e-4, end: float = 0.02) -> torch.Tensor:
    """Computes β rising linearly (Ho et al. 2020, section 4), float64 [num_timesteps].

    The defaults are for 1000 steps. For fewer, multiply both ends by 1000 / num_timesteps; otherwise
    some data is left at the end.
    """
    return torch.linspace(start, end, num_timesteps, dtype=torch.float64)


def cosine_betas(num_timesteps: int = 1000, offset: float = 0.008, max_beta: float = 0.999) -> torch.Tensor:
    """Computes the β of ᾱ(t) ∝ cos²((t / T + offset) / (1 + offset) · π / 2), float64 [num_timesteps].

    Nichol & Dhariwal 2021, equation 17 (https://arxiv.org/abs/2102.09672). `offset` keeps the first steps from being
    too small; `max_beta` keeps the last one from destroying everything, so that it can be reversed.
    """
    time = torch.arange(num_timesteps + 1, dtype=torch.float64) / num_timesteps
    alphas_cumprod = torch.cos((time + offset) / (1 + offset) * math.pi / 2).square()
    return (1 - alphas_cumprod[1:] / alphas_cumprod[:-1]).clamp(max=max_beta)


class NoiseSchedule:
    """Holds β_t and ᾱ_t and adds noise in one step.

    Args:
        betas: [num_timesteps], each above 0 and below 1.

    Raises:
        ValueError: a β is out of range.
    """

    def __init__(self, betas: torch.Tensor) -> None:
        if betas.ndim != 1 or not len(betas) or not bool(((betas > 0) & (betas < 1)).all()):
            raise ValueError("betas must be a vector of numbers above 0 and below 1")
        self.betas = betas.double()
        self.alphas_cumprod = (1 - self.betas).cumprod(dim=0)

    def __len__(self) -> int:
        """Returns the number of timesteps."""
        return len(self.betas)

    def alpha_bar(self, timesteps: torch.Tensor | int, like: torch.Tensor) -> torch.Tensor:
        """Looks up ᾱ at timesteps from −1 (where it is 1) on, ready to multiply `like` [batch, ...].

        Args:
            timesteps: [batch], or one for all samples.
            like: gives data type, device and number of dimensions.

        Returns:
            [batch, 1, …, 1]; or [1, 1, …, 1] for one timestep.

        Raises:
            ValueError: a timestep is not below the number of timesteps, or below −1.
        """
        timesteps = torch.as_tensor(timesteps, device=self.alphas_cumprod.device).reshape(-1)
        if bool(((timesteps < -1) | (timesteps >= len(self))).any()):
            raise ValueError(f"timesteps must be from -1 to {len(self) - 1}, not {timesteps.tolist()}")
        values = torch.where(timesteps < 0, 1.0, self.alphas_cumprod[timesteps.clamp(min=0)])
        return values.to(like.device, like.dtype).view(-1, *[1] * (like.ndim - 1))

    def add_noise(self, x0: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor | int) -> torch.Tensor:
        """Computes x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε (Ho et al. 2020, equation 4): all steps of noise at once.

        Args:
            x0: clean data, [batch, ...].
            noise: ε, standard normal, shaped like `x0`.
            timesteps: [batch], or one for all samples.
        """
        alpha_bar = self.alpha_bar(timesteps, x0)
        return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise

    def snr(self) -> torch.Tensor:
        """Computes the signal-to-noise ratio ᾱ_t / (1 − ᾱ_t), float64 [num_timesteps]."""
        return self.alphas_cumprod / (1 - self.alphas_cumprod)


def sampling_timesteps(num_timesteps: int, steps: int, spacing: TimestepSpacing = "trailing") -> list[int]:
    """Chooses `steps` evenly spaced timesteps for sampling, in descending order.

    'trailing' begins at the last timestep, where a sample is noise; 'leading' ends at timestep 0 and starts lower, so
    that a sampler that starts from pure noise is told that there is some data in it (Lin et al. 2024, table 2,
    https://arxiv.org/abs/2305.08891).

    Raises:
        ValueError: `steps` is not between 1 and `num_timesteps`.
    """
    if not 1 <= steps <= num_timesteps:
        raise ValueError(f"steps must be from 1 to {num_timesteps}, the timesteps of the schedule, not {steps}")
    if spacing == "leading":
        return [step * (num_timesteps // steps) for step in reversed(range(steps))]
    return [round(num_timesteps - step * num_timesteps / steps) - 1 for step in range(steps)]
