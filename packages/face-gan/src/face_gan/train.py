"""The training loop."""

import copy
import dataclasses

import torch
from dlcommon.generative.diff_augment import diff_augment
from dlcommon.generative.gan_losses import GAN_LOSSES
from dlcommon.generative.gradient_penalties import zero_centered_penalty
from dlcommon.runtime.evaluation.image_features import ASSET
from dlcommon.runtime.flops import training_flops
from dlcommon.runtime.training_run import TrainingRun
from dlcommon.training.schedules import linear
from torch import nn

from face_gan.config import VALIDATION_FIGURE, Config
from face_gan.model import SIZE, build
from face_gan.samples import Monitor, write_progress
from face_gan.validation import Validation, features_of, hold_out


def augment(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirrors half of the pictures uint8 [batch, 64, 64, 3]; returns images [batch, 3, 64, 64] in [−1, 1]."""
    images = batch.permute(0, 3, 1, 2).float() / 127.5 - 1
    mirrored = torch.rand(len(images), 1, 1, 1, generator=generator).to(images.device) < 0.5
    return torch.where(mirrored, images.flip(-1), images).contiguous(memory_format=torch.channels_last)


def step_flops(generator: nn.Module, discriminator: nn.Module, config: Config) -> int:
    """Counts the floating-point operations of a step, the mean of those with and without a gradient penalty."""
    noise, image = torch.randn(1, config.noise_dim), torch.zeros(1, 3, SIZE, SIZE)
    generator, discriminator = copy.deepcopy(generator).cpu().eval(), copy.deepcopy(discriminator).cpu().eval()
    made, judged = training_flops(generator, noise), training_flops(discriminator, image)
    real = judged if config.loss != "relativistic" else judged * 4 // 3  # looked at once more for the generator
    total = made + real + 2 * judged  # the generated picture is judged once for either network
    if config.gradient_penalty:
        # The gradient takes one more backward pass, and its own gradient two: as much as a pass of training.
        total += 2 * judged // config.penalty_every
    return total * config.batch_size


def train(run: TrainingRun[Config]) -> None:
    config, data = run.config, run.data.load()
    trained, held_out = hold_out(data.train, config.validation_share)
    data = dataclasses.replace(data, train=trained)
    if not run.data.builtin:
        run.asset(ASSET)  # what pictures are judged by must be there before the work, not missed after it
    loss, names = GAN_LOSSES[config.loss], config.augment
    networks = (network.to(memory_format=torch.channels_last) for network in build(config))
    generator, discriminator = networks
    flops = step_flops(generator, discriminator, config)
    generator_optimizer, discriminator_optimizer = (
        torch.optim.Adam(network.parameters(), lr=config.learning_rate, betas=(config.beta1, config.beta2))
        for network in (generator, discriminator)
    )
    generator, discriminator, generator_optimizer, discriminator_optimizer = run.prepare(
        generator, discriminator, generator_optimizer, discriminator_optimizer, average=generator
    )
    schedule = linear(warmup=0.01, end=config.final_learning_rate)
    monitor = Monitor(run, generator, discriminator, data)
    validation = Validation(run, features_of(run), held_out) if config.validation_share else None

    def seen(images: torch.Tensor) -> torch.Tensor:
        """Returns images as the discriminator sees them, augmented differently each time."""
        return diff_augment(images, names, drawn) if names else images

    for (real,) in run.steps(run.batches(torch.from_numpy(data.train), transform=augment)):
        drawn = run.generator("augmentation")
        noise = run.local(torch.randn(config.batch_size, config.noise_dim, generator=run.generator("noise")))
        # One batch of pictures serves both networks: the discriminator's step leaves the generator as it is.
        with run.forward(generator):
            fake = generator(noise)
        penalized = bool(config.gradient_penalty) and run.step % config.penalty_every == 0
        with run.forward(discriminator):
            real_seen, fake_seen = (seen(images).detach().requires_grad_(penalized) for images in (real, fake.float()))
            real_scores, fake_scores = discriminator(real_seen).float(), discriminator(fake_seen).float()
            d_loss = total = loss.discriminator(real_scores, fake_scores)
            if penalized:
                penalty = zero_centered_penalty(real_scores, real_seen) + zero_centered_penalty(fake_scores, fake_seen)
                total = d_loss + config.gradient_penalty / 2 * config.penalty_every * penalty
        run.backward(total, name="discriminator_loss")
        monitor.note(discriminator, discriminator_loss=d_loss)
        run.apply(discriminator_optimizer, schedule=schedule)

        with run.forward(generator):
            fake_scores = discriminator(seen(fake.float())).float()
            with torch.no_grad():
                real_scores = discriminator(seen(real)).float() if loss.relativistic else real_scores.detach()
            g_loss = loss.generator(real_scores, fake_scores)
        run.backward(g_loss, name="generator_loss")
        monitor.note(generator, generator_loss=g_loss)
        run.apply(generator_optimizer, schedule=schedule)
        run.flops += flops
        if run.should_evaluate:
            validated = {} if validation is None else validation.evaluate(run.ema_model(generator))
            chosen_by = VALIDATION_FIGURE if validated else None
            run.log_evaluation(maximize=None, minimize=chosen_by, **monitor.evaluate(), **validated)
    if run.is_main:
        write_progress(run.directory)
    run.finish(
        generator,
        generator_parameters=sum(parameter.numel() for parameter in run.unwrap_model(generator).parameters()),
        discriminator_parameters=sum(parameter.numel() for parameter in run.unwrap_model(discriminator).parameters()),
    )
