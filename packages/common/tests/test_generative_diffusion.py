"""Noise schedules, DDPM and DDIM against diffusers' schedulers, and samples against a known distribution."""

import math
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from dlcommon.generative.ddim import ddim_sample, ddim_step
from dlcommon.generative.ddpm import bound_coefficients, ddpm_sample, ddpm_step, diffusion_loss, posterior
from dlcommon.generative.noise_schedules import NoiseSchedule, cosine_betas, linear_betas, sampling_timesteps
from dlcommon.generative.prediction_types import PredictionType, training_target, x0_and_noise
from scipy.stats import wasserstein_distance
from torch.distributions import Normal, kl_divergence

LINEAR, COSINE = NoiseSchedule(linear_betas()), NoiseSchedule(cosine_betas())
NAMES = {"linear": LINEAR, "squaredcos_cap_v2": COSINE}
PREDICTIONS: tuple[PredictionType, ...] = ("epsilon", "sample", "v_prediction")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scheduler(kind: Any, schedule: NoiseSchedule = LINEAR, **options: Any) -> Any:
    """Makes a scheduler of diffusers that computes in float64.

    Its own ᾱ are float32 products of up to a thousand factors; `test_schedules_are_diffusers` compares them.
    """
    made = kind(**{"clip_sample": False, **options})
    made.alphas_cumprod = schedule.alphas_cumprod
    return made


@pytest.mark.parametrize("name", NAMES)
def test_schedules_are_diffusers(name: str) -> None:
    theirs: Any = DDPMScheduler(beta_schedule=name)
    torch.testing.assert_close(NAMES[name].betas.float(), theirs.betas, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(NAMES[name].alphas_cumprod.float(), theirs.alphas_cumprod, rtol=1e-4, atol=1e-7)


def test_snr_falls_and_a_schedule_refuses_what_is_no_variance() -> None:
    snr = COSINE.snr()
    assert (snr[1:] < snr[:-1]).all()
    torch.testing.assert_close(snr / (1 + snr), COSINE.alphas_cumprod)
    for wrong in ([0.5, 1.0], [0.0, 0.5], [[0.1]], []):
        with pytest.raises(ValueError, match="above 0 and below 1"):
            NoiseSchedule(torch.tensor(wrong))


def test_alpha_bar_of_clean_data_is_1_and_timesteps_beyond_the_schedule_are_refused() -> None:
    x = random(2, 3, 4, 4)
    found = LINEAR.alpha_bar(torch.tensor([-1, 999]), x)
    assert found.shape == (2, 1, 1, 1)
    assert found.dtype == x.dtype
    assert found[0].item() == 1
    assert LINEAR.alpha_bar(3, x).shape == (1, 1, 1, 1)
    for timestep in (-2, 1000):
        with pytest.raises(ValueError, match=r"timesteps must be from -1 to 999"):
            LINEAR.alpha_bar(timestep, x)


def test_noise_in_one_step_is_diffusers_and_what_many_steps_add_up_to() -> None:
    x0, noise, timesteps = random(4, 3, 8, 8), random(4, 3, 8, 8, seed=1), torch.tensor([0, 10, 500, 999])
    ours = LINEAR.add_noise(x0, noise, timesteps)
    theirs = scheduler(DDPMScheduler).add_noise(x0, noise, timesteps)
    torch.testing.assert_close(ours, theirs)
    # Step by step, x ← √(1 − β) x + √β z: mean and variance of a fixed x_0 in float64.
    mean, variance = torch.tensor(1.0).double(), torch.tensor(0.0).double()
    for beta in LINEAR.betas[:501]:
        mean, variance = mean * (1 - beta).sqrt(), variance * (1 - beta) + beta
    torch.testing.assert_close(mean.square(), LINEAR.alphas_cumprod[500])
    torch.testing.assert_close(variance, 1 - LINEAR.alphas_cumprod[500])


def test_predictions_say_the_same() -> None:
    x0, noise, timesteps = random(5, 2, 4, 4), random(5, 2, 4, 4, seed=1), torch.arange(0, 1000, 200)
    x_t, alpha_bar = COSINE.add_noise(x0, noise, timesteps), COSINE.alpha_bar(timesteps, x0)
    for prediction_type in PREDICTIONS:
        target = training_target(x0, noise, alpha_bar, prediction_type)
        found_x0, found_noise = x0_and_noise(target, x_t, alpha_bar, prediction_type)
        torch.testing.assert_close(found_x0, x0)
        torch.testing.assert_close(found_noise, noise)
    velocity = scheduler(DDPMScheduler, COSINE).get_velocity(x0, noise, timesteps)
    torch.testing.assert_close(training_target(x0, noise, alpha_bar, "v_prediction"), velocity)


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
def test_the_loss_and_its_gradient_are_those_of_diffusers_targets(prediction_type: PredictionType) -> None:
    x0, weight = random(8, 2, 4, 4), torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def denoiser(x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return weight * x + timesteps.view(-1, 1, 1, 1) / 1000

    loss = diffusion_loss(
        denoiser, x0, LINEAR, prediction_type=prediction_type, generator=torch.Generator().manual_seed(5)
    )
    generator, theirs = torch.Generator().manual_seed(5), scheduler(DDPMScheduler)
    timesteps = torch.randint(1000, (8,), generator=generator)
    noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    targets = {"epsilon": noise, "sample": x0, "v_prediction": theirs.get_velocity(x0, noise, timesteps)}
    error = denoiser(theirs.add_noise(x0, noise, timesteps), timesteps) - targets[prediction_type]
    expected = error.square().mean()
    torch.testing.assert_close(loss, expected)
    found, wanted = (torch.autograd.grad(each, weight)[0] for each in (loss, expected))
    torch.testing.assert_close(found, wanted)


def test_the_posterior_is_bayes_rule() -> None:
    # In one dimension: q(x_s | x_t, x_0) ∝ q(x_t | x_s) q(x_s | x_0), on a grid.
    timestep, previous, x0, x_t = 300, 200, 0.7, -0.4
    alpha_bar, previous_alpha_bar = LINEAR.alphas_cumprod[timestep], LINEAR.alphas_cumprod[previous]
    alpha = alpha_bar / previous_alpha_bar
    grid = torch.linspace(-8, 8, 4001).double()
    log_density = Normal(alpha.sqrt() * grid, (1 - alpha).sqrt()).log_prob(torch.tensor(x_t).double())
    log_density += Normal(previous_alpha_bar.sqrt() * x0, (1 - previous_alpha_bar).sqrt()).log_prob(grid)
    weights = log_density.softmax(dim=0)
    mean = (weights * grid).sum()
    found_mean, found_variance = posterior(
        torch.tensor(x0).double(), torch.tensor(x_t).double(), alpha_bar, previous_alpha_bar
    )
    torch.testing.assert_close(found_mean, mean)
    torch.testing.assert_close(found_variance, (weights * (grid - mean).square()).sum())


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
def test_bound_coefficients_turn_an_error_of_the_noise_into_the_divergence(variance_type: Any) -> None:
    x0, noise, wrong = random(6), random(6, seed=1), random(6, seed=2)
    weights, constants = bound_coefficients(LINEAR, variance_type)
    terms = weights[:, None] * (noise - wrong).square() + constants[:, None]
    for timestep in (1, 50, 999):
        alpha_bar, previous = LINEAR.alpha_bar(timestep, x0), LINEAR.alpha_bar(timestep - 1, x0)
        x_t = LINEAR.add_noise(x0, noise, timestep)
        mean, small = posterior(x0, x_t, alpha_bar, previous)
        guess, _ = posterior(x0_and_noise(wrong, x_t, alpha_bar, "epsilon")[0], x_t, alpha_bar, previous)
        variance = small if variance_type == "fixed_small" else LINEAR.betas[timestep]
        divergence = kl_divergence(Normal(mean, small.sqrt()), Normal(guess, variance.sqrt()))
        torch.testing.assert_close(terms[timestep], divergence)
    x_t = LINEAR.add_noise(x0, noise, 0)
    guess, _ = x0_and_noise(wrong, x_t, LINEAR.alpha_bar(0, x0), "epsilon")
    torch.testing.assert_close(terms[0], -Normal(guess, LINEAR.betas[0].sqrt()).log_prob(x0))


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large", "learned_range"])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_ddpm_steps_are_diffusers(prediction_type: PredictionType, variance_type: Any, clip: float | None) -> None:
    theirs = scheduler(
        DDPMScheduler, variance_type=variance_type, prediction_type=prediction_type, clip_sample=clip is not None
    )
    channels = 6 if variance_type == "learned_range" else 3
    for timestep in (999, 500, 1, 0):
        x_t, prediction = random(2, 3, 4, 4), random(2, channels, 4, 4, seed=1)
        expected = theirs.step(prediction, timestep, x_t, generator=torch.Generator().manual_seed(3)).prev_sample
        found = ddpm_step(
            prediction,
            x_t,
            random(2, 3, 4, 4, seed=3),
            LINEAR.alpha_bar(timestep, x_t),
            LINEAR.alpha_bar(timestep - 1, x_t),
            prediction_type=prediction_type,
            variance_type=variance_type,
            clip=clip,
        )
        # 1 − ᾱ_0 is 0.0001, the difference of two numbers near 1.
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


def test_fixed_small_log_of_diffusers_is_fixed_small() -> None:
    theirs = scheduler(DDPMScheduler, variance_type="fixed_small_log")
    x_t, prediction = random(2, 3, 4, 4), random(2, 3, 4, 4, seed=1)
    expected = theirs.step(prediction, 400, x_t, generator=torch.Generator().manual_seed(3)).prev_sample
    alpha_bars = (LINEAR.alpha_bar(400, x_t), LINEAR.alpha_bar(399, x_t))
    found = ddpm_step(prediction, x_t, random(2, 3, 4, 4, seed=3), *alpha_bars)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("steps", [1, 7, 50, 1000])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_sampling_timesteps_are_diffusers(steps: int, spacing: Any) -> None:
    theirs = scheduler(DDIMScheduler, timestep_spacing=spacing)
    theirs.set_timesteps(steps)
    assert sampling_timesteps(1000, steps, spacing) == theirs.timesteps.tolist()


@pytest.mark.parametrize("steps", [0, 1001])
def test_sampling_refuses_more_steps_than_the_schedule_has(steps: int) -> None:
    with pytest.raises(ValueError, match="steps must be from 1 to 1000"):
        sampling_timesteps(1000, steps)


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_a_whole_ddim_chain_is_diffusers(prediction_type: PredictionType, eta: float, spacing: Any) -> None:
    theirs = scheduler(
        DDIMScheduler, COSINE, prediction_type=prediction_type, timestep_spacing=spacing, clip_sample=True
    )  # fmt: skip
    theirs.set_timesteps(10)

    def denoiser(x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return 0.5 * torch.sin(3 * x) + timesteps.view(-1, 1, 1, 1) / 2000

    start = random(2, 3, 4, 4)
    found = ddim_sample(
        denoiser, start, COSINE, 10, eta=eta, prediction_type=prediction_type, clip=1.0, spacing=spacing,
        generator=torch.Generator().manual_seed(3),
    )  # fmt: skip
    generator, x = torch.Generator().manual_seed(3), start
    for timestep in theirs.timesteps:
        prediction = denoiser(x, timestep.expand(2))
        x = theirs.step(
            prediction, timestep, x, eta=eta, use_clipped_model_output=True, generator=generator if eta else None
        ).prev_sample
    torch.testing.assert_close(found, x)


def test_ddim_with_eta_1_is_ddpm_and_its_arguments_are_checked() -> None:
    x_t, prediction, noise = random(2, 3), random(2, 3, seed=1), random(2, 3, seed=2)
    alpha_bars = (LINEAR.alpha_bar(600, x_t), LINEAR.alpha_bar(570, x_t))
    torch.testing.assert_close(
        ddim_step(prediction, x_t, *alpha_bars, noise=noise, eta=1.0), ddpm_step(prediction, x_t, noise, *alpha_bars)
    )
    with pytest.raises(ValueError, match="pass noise"):
        ddim_step(prediction, x_t, *alpha_bars, eta=0.5)
    with pytest.raises(ValueError, match="eta must be from 0 to 1, not 2"):
        ddim_step(prediction, x_t, *alpha_bars, noise=noise, eta=2)


def exact_noise(x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """ε̂ = −√(1 − ᾱ) · score of the noisy mixture ½ N(−2, 0.3²) + ½ N(1, 0.6²), by autograd."""
    alpha_bar = COSINE.alpha_bar(timesteps, x)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        parts = [
            Normal(alpha_bar.sqrt() * mean, (alpha_bar * std**2 + 1 - alpha_bar).sqrt()).log_prob(x) - math.log(2)
            for mean, std in ((-2.0, 0.3), (1.0, 0.6))
        ]
        score = torch.autograd.grad(torch.logaddexp(*parts).sum(), x)[0]
    return -(1 - alpha_bar).sqrt() * score


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_with_the_exact_noise_samples_have_the_datas_distribution(sampler: str) -> None:
    count, generator = 2000, torch.Generator().manual_seed(0)
    noise = torch.randn(count, 1, generator=generator)
    if sampler == "ddpm":
        samples = ddpm_sample(exact_noise, noise, COSINE, 100, generator=generator)
    else:
        samples = ddim_sample(exact_noise, noise, COSINE, 100)
        assert torch.equal(samples[:10], ddim_sample(exact_noise, noise[:10], COSINE, 100))
    choice = torch.rand(count, generator=generator) < 0.5
    means, stds = torch.where(choice, -2.0, 1.0), torch.where(choice, 0.3, 0.6)
    truth = means + stds * torch.randn(count, generator=generator)
    # Two samples of 2,000 from the truth differ by about 0.06.
    assert wasserstein_distance(samples[:, 0], truth) < 0.12
    assert wasserstein_distance(noise[:, 0], truth) > 0.5
