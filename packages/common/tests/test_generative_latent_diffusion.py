"""Latent diffusion against diffusers: attention, schedule, and whole pictures of its Stable Diffusion pipelines."""

from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.models.attention_processor import Attention
from dlcommon.generative.ddim import ddim_sample
from dlcommon.generative.latent_diffusion import (
    CrossAttention,
    drop_captions,
    img2img_sample,
    scaled_linear_betas,
    scaling_factor,
    text_guidance,
)
from dlcommon.generative.noise_schedules import NoiseSchedule

STEPS = 5
"""A divisor of 1000: otherwise diffusers goes to t − ⌊1000 / steps⌋, which is not quite the next timestep."""


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("num_heads", "head_dim"), [(1, 12), (4, 3), (2, 8)])
def test_cross_attention_is_diffusers_in_value_and_gradient(num_heads: int, head_dim: int) -> None:
    torch.manual_seed(0)
    theirs: Any = Attention(query_dim=12, cross_attention_dim=10, heads=num_heads, dim_head=head_dim).double()
    ours = CrossAttention(12, 10, num_heads, head_dim).double()
    ours.load_state_dict(theirs.state_dict())
    x, context = random(2, 9, 12).double().requires_grad_(), random(2, 5, 10, seed=1).double().requires_grad_()
    output, weights = ours(x, context)
    expected = theirs(x, encoder_hidden_states=context)
    torch.testing.assert_close(output, expected)
    assert weights.shape == (2, num_heads, 9, 5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, num_heads, 9, dtype=torch.float64))
    gradients = torch.autograd.grad(output.square().sum(), [x, context, *ours.parameters()])
    theirs_too = torch.autograd.grad(expected.square().sum(), [x, context, *theirs.parameters()])
    torch.testing.assert_close(gradients, theirs_too)


def test_the_schedule_is_that_of_diffusers_scaled_linear() -> None:
    theirs: Any = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    torch.testing.assert_close(scaled_linear_betas().float(), theirs.betas)
    torch.testing.assert_close(NoiseSchedule(scaled_linear_betas()).alphas_cumprod.float(), theirs.alphas_cumprod)


def test_scaled_latents_have_variance_one() -> None:
    latents = 3 * random(50, 4, 4, 4) + 0.5
    assert (latents * scaling_factor(latents)).std().item() == pytest.approx(1)
    for flat in (torch.zeros(3, 4, 2, 2), torch.full((2, 4), float("nan"))):
        with pytest.raises(ValueError, match="latents have no spread"):
            scaling_factor(flat)


def test_whole_captions_are_dropped() -> None:
    tokens, null = torch.arange(1, 3001).view(1000, 3), torch.tensor([7, 7, 7])
    dropped = drop_captions(tokens, null, 0.25, generator=torch.Generator().manual_seed(0))
    empty = (dropped == null).all(dim=1)
    assert 200 < int(empty.sum()) < 300
    assert torch.equal(dropped[~empty], tokens[~empty])
    assert torch.equal(drop_captions(tokens, null, 0.0), tokens)
    assert torch.equal(drop_captions(tokens, null, 1.0), null.expand(1000, 3))
    with pytest.raises(ValueError, match="probability must be from 0 to 1, not 2"):
        drop_captions(tokens, null, 2.0)


def test_guidance_goes_on_in_the_direction_of_the_text() -> None:
    def network(x: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        return x * timesteps[:, None] + context.mean(dim=(1, 2))[:, None]

    x, timesteps, context, null = (
        random(3, 4),
        torch.tensor([1, 2, 3]),
        random(3, 5, 6, seed=1),
        random(1, 5, 6, seed=2),
    )
    conditional, unconditional = network(x, timesteps, context), network(x, timesteps, null.expand(3, 5, 6))
    for scale in (0.0, 1.0, 7.5):
        expected = unconditional + scale * (conditional - unconditional)
        torch.testing.assert_close(text_guidance(network, context, null, scale)(x, timesteps), expected)


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    """Makes a tiny Stable Diffusion with random weights: autoencoder, U-Net and scheduler."""
    torch.manual_seed(0)
    vae: Any = AutoencoderKL(block_out_channels=(4,), norm_num_groups=2, sample_size=8, scaling_factor=0.5)
    unet: Any = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        block_out_channels=(8,),
        layers_per_block=1,
        cross_attention_dim=6,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    scheduler: Any = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        steps_offset=1,
    )
    others = {"text_encoder": None, "tokenizer": None, "safety_checker": None, "feature_extractor": None}
    return {"vae": vae.eval(), "unet": unet.eval(), "scheduler": scheduler, **others}


def guided(parts: dict[str, Any], context: torch.Tensor, null: torch.Tensor) -> Any:
    return text_guidance(lambda x, t, text: parts["unet"](x, t, text).sample, context, null, 3.0)


def test_text_to_image_draws_the_latents_of_diffusers_pipeline(parts: dict[str, Any]) -> None:
    pipeline: Any = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    context, null, noise = random(2, 5, 6), random(1, 5, 6, seed=1), random(2, 4, 8, 8, seed=2)
    theirs = pipeline(
        prompt_embeds=context,
        negative_prompt_embeds=null.expand(2, 5, 6),
        latents=noise,
        num_inference_steps=STEPS,
        guidance_scale=3.0,
        height=8,
        width=8,
        output_type="latent",
    ).images
    schedule = NoiseSchedule(scaled_linear_betas())
    ours = ddim_sample(guided(parts, context, null), noise, schedule, STEPS, prediction_type="v_prediction")
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("strength", [0.35, 0.5, 1.0])
def test_img2img_draws_the_latents_of_diffusers_pipeline(parts: dict[str, Any], strength: float) -> None:
    pipeline: Any = StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    context, null, latents = random(2, 5, 6), random(1, 5, 6, seed=1), random(2, 4, 8, 8, seed=2)
    theirs = pipeline(
        prompt_embeds=context,
        negative_prompt_embeds=null.expand(2, 5, 6),
        image=latents,  # with four channels, they are taken for latents
        strength=strength,
        num_inference_steps=STEPS,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
    ).images
    noise = random(2, 4, 8, 8, seed=3)  # as the pipeline draws it
    schedule, denoiser = NoiseSchedule(scaled_linear_betas()), guided(parts, context, null)
    ours = img2img_sample(denoiser, latents, noise, schedule, STEPS, strength, prediction_type="v_prediction")
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_img2img_of_strength_zero_is_the_picture_and_strength_is_bounded() -> None:
    latents, noise, schedule = random(2, 4, 3, 3), random(2, 4, 3, 3, seed=1), NoiseSchedule(scaled_linear_betas())
    assert torch.equal(img2img_sample(lambda x, t: x, latents, noise, schedule, 5, 0.0), latents)
    with pytest.raises(ValueError, match=r"strength must be from 0 to 1, not 1\.5"):
        img2img_sample(lambda x, t: x, latents, noise, schedule, 5, 1.5)
