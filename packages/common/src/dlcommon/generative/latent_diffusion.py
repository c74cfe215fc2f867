"""Text-to-image latent diffusion: what Stable Diffusion adds to a diffusion model (Rombach et al. 2022).

https://arxiv.org/abs/2112.10752. Shapes: latents [batch, channels, height, width], from an autoencoder's encoder;
captions, token ids [batch, tokens]; context, a text encoder's output [batch, tokens, context_dim].
"""

from collections.abc import Callable

import torch
from torch import nn

from dlcommon.generative.ddim import ddim_step
from dlcommon.generative.ddpm import Denoiser
from dlcommon.generative.guidance import ClassifierFreeGuidance, drop_labels
from dlcommon.generative.noise_schedules import NoiseSchedule, TimestepSpacing, sampling_timesteps
from dlcommon.generative.prediction_types import PredictionType
from dlcommon.transformer.attention import scaled_dot_product_attention

ContextDenoiser = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Maps noisy latents, timesteps [batch] and the context to its prediction, shaped like the latents."""


def scaled_linear_betas(num_timesteps: int = 1000, start: float = 0.00085, end: float = 0.012) -> torch.Tensor:
    """Computes β whose square root rises linearly, float64 [num_timesteps]: Stable Diffusion's schedule."""
    return torch.linspace(start**0.5, end**0.5, num_timesteps, dtype=torch.float64).square()


def scaling_factor(latents: torch.Tensor) -> float:
    """Computes 1 / standard deviation of all latents: multiplied by it, they have the noise's variance (section D.1).

    Raises:
        ValueError: the latents are all alike, or not finite.
    """
    factor = 1 / latents.std().item() if bool(latents.std() > 0) else float("nan")
    if not 0 < factor < float("inf"):
        raise ValueError("latents have no spread: the encoder maps all pictures to the same place")
    return factor


class CrossAttention(nn.Module):
    """Lets every place of a feature map attend to every token of a text (section 3.3).

    Queries come from the picture, keys and values from the text, without biases. Equals `diffusers`' `Attention` with
    the same weights, whose names it shares.

    Args:
        dim: channels of the feature map.
        context_dim: width of the text encoder's output.
        num_heads: number of heads.
        head_dim: width of each.
    """

    def __init__(self, dim: int, context_dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads, inner_dim = num_heads, num_heads * head_dim
        self.to_q = nn.Linear(dim, inner_dim, bias=False)
        self.to_k = nn.Linear(context_dim, inner_dim, bias=False)
        self.to_v = nn.Linear(context_dim, inner_dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner_dim, dim))

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Attends from places to tokens.

        Args:
            x: [batch, places, dim], the feature map with height and width flattened.
            context: [batch, tokens, context_dim].

        Returns:
            The output [batch, places, dim], and the weights [batch, heads, places, tokens]: column j is the map of
            token j over the picture.
        """
        query, key, value = (
            projected.unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # [batch, heads, places or tokens, head_dim]
            for projected in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        heads, weights = scaled_dot_product_attention(query, key, value)
        return self.to_out(heads.transpose(1, 2).flatten(2)), weights


def drop_captions(
    tokens: torch.Tensor,
    null_caption: torch.Tensor,
    probability: float = 0.1,
    *,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Replaces whole captions by the empty one at random, so that the network also learns to do without a text.

    Args:
        tokens: captions, [batch, tokens].
        null_caption: the empty caption, [tokens].
        probability: share of captions that are dropped.
        generator: decides which.

    Returns:
        [batch, tokens].

    Raises:
        ValueError: `probability` is not from 0 to 1.
    """
    rows = torch.arange(len(tokens))
    rows = drop_labels(rows, len(tokens), probability, generator=generator).to(tokens.device)
    return torch.cat((tokens, null_caption[None]))[rows]


def text_guidance(
    network: ContextDenoiser, context: torch.Tensor, null_context: torch.Tensor, scale: float
) -> ClassifierFreeGuidance:
    """Makes a denoiser that follows a text `scale` times as far as it was learned.

    The text is encoded once, since it stays the same in all steps.

    Args:
        network: predicts from latents, timesteps and context.
        context: of what is asked for, [batch, tokens, context_dim].
        null_context: of the empty caption or of a negative prompt, [1, tokens, context_dim].
        scale: 1 samples as learned; 7.5 is Stable Diffusion's default.
    """
    contexts = torch.cat((context, null_context))  # the last row stands for no text
    rows = torch.arange(len(context), device=context.device)
    return ClassifierFreeGuidance(lambda x, t, which: network(x, t, contexts[which]), rows, len(context), scale)


@torch.no_grad()
def img2img_sample(
    denoiser: Denoiser,
    latents: torch.Tensor,
    noise: torch.Tensor,
    schedule: NoiseSchedule,
    steps: int,
    strength: float,
    *,
    prediction_type: PredictionType = "epsilon",
    spacing: TimestepSpacing = "trailing",
) -> torch.Tensor:
    """Starts late, from a picture with noise, and samples the rest with DDIM (SDEdit, Meng et al. 2022).

    https://arxiv.org/abs/2108.01073. The later it starts, the less noise it adds, and the more of the picture stays.

    Args:
        denoiser: the model.
        latents: of the picture, [batch, channels, height, width].
        noise: standard normal, shaped like `latents`.
        schedule: the schedule that the denoiser was trained with.
        steps: number of steps of a whole sampling, of which the last int(steps · strength) are taken.
        strength: 0 returns the picture as it is; 1 starts from the most noise.
        prediction_type: what the denoiser predicts.
        spacing: which timesteps are visited; see `sampling_timesteps`.

    Returns:
        Latents, shaped like `latents`.

    Raises:
        ValueError: `strength` is not from 0 to 1.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be from 0 to 1, not {strength}")
    timesteps = sampling_timesteps(len(schedule), steps, spacing)[steps - int(steps * strength) :]
    if not timesteps:
        return latents
    x = schedule.add_noise(latents, noise, timesteps[0])
    for timestep, previous in zip(timesteps, [*timesteps[1:], -1], strict=True):
        prediction = denoiser(x, torch.full((len(x),), timestep, device=x.device))
        alpha_bar, previous_alpha_bar = schedule.alpha_bar(timestep, x), schedule.alpha_bar(previous, x)
        x = ddim_step(prediction, x, alpha_bar, previous_alpha_bar, prediction_type=prediction_type)
    return x
