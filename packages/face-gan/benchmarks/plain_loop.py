"""Training speed of the capstone over a plain loop as PyTorch's own DCGAN example writes it, on this machine.

    uv run --package face-gan python packages/face-gan/benchmarks/plain_loop.py

The plain loop is examples/dcgan of pytorch/examples: a `DataLoader` over decoded pictures, batches of 64, widths of 64,
BCE, fp32. Two programs of ours are timed: `dcgan`, networks of the same widths as the preset trains them (batches in
memory, bf16 where the processor computes in it, channels_last), and `style`, the default recipe with its penalty steps.
Rounds alternate; counted are real pictures a second.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from dlcommon.generative.dcgan import initialize
from dlcommon.generative.gan_losses import GAN_LOSSES
from dlcommon.generative.gradient_penalties import zero_centered_penalty
from dlcommon.runtime import data
from dlcommon.runtime.batches import TensorBatches
from dlcommon.runtime.hardware import computes_in_bf16, describe, keep_freed_memory
from face_gan.config import PRESETS, Config
from face_gan.model import build
from face_gan.train import augment
from torch import nn
from torch.utils.data import DataLoader, Dataset

Step = Callable[[], int]
"""Trains on one batch and returns its real pictures."""


class Faces(Dataset[torch.Tensor]):
    """Turns each picture into a normalized tensor by itself, as `ToTensor` and `Normalize` do."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return (torch.from_numpy(self.images[index]).permute(2, 0, 1).float().div(255) - 0.5) / 0.5


def example_networks(nz: int = 100, ngf: int = 64, ndf: int = 64) -> tuple[nn.Module, nn.Module]:
    """Builds the example's generator and discriminator."""
    up, widths = [], [nz, 8 * ngf, 4 * ngf, 2 * ngf, ngf]
    for number, (a, b) in enumerate(pairwise(widths)):
        stride, padding = (2, 1) if number else (1, 0)
        up += [nn.ConvTranspose2d(a, b, 4, stride, padding, bias=False), nn.BatchNorm2d(b), nn.ReLU(True)]
    generator = nn.Sequential(*up, nn.ConvTranspose2d(ngf, 3, 4, 2, 1, bias=False), nn.Tanh())
    down: list[nn.Module] = [nn.Conv2d(3, ndf, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
    for number in range(3):
        a, b = ndf * 2**number, ndf * 2 ** (number + 1)
        down += [nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2, inplace=True)]
    discriminator = nn.Sequential(*down, nn.Conv2d(8 * ndf, 1, 4, 1, 0, bias=False), nn.Sigmoid())
    initialize(generator)
    initialize(discriminator)
    return generator, discriminator


def plain(images: np.ndarray) -> Step:
    generator, discriminator = example_networks()
    adams = [torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999)) for net in (discriminator, generator)]
    criterion, loader = nn.BCELoss(), DataLoader(Faces(images), batch_size=64, shuffle=True, drop_last=True)

    def endless() -> Iterator[torch.Tensor]:
        while True:
            yield from loader

    following = endless()

    def step() -> int:
        real = next(following)
        ones, zeros = torch.ones(len(real)), torch.zeros(len(real))
        discriminator.zero_grad()
        criterion(discriminator(real).view(-1), ones).backward()
        fake = generator(torch.randn(len(real), 100, 1, 1))
        criterion(discriminator(fake.detach()).view(-1), zeros).backward()
        adams[0].step()
        generator.zero_grad()
        criterion(discriminator(fake).view(-1), ones).backward()
        adams[1].step()
        return len(real)

    return step


def ours(config: Config, images: np.ndarray, bf16: bool) -> Step:
    generator, discriminator = (network.to(memory_format=torch.channels_last) for network in build(config))
    adams = [
        torch.optim.Adam(net.parameters(), lr=config.learning_rate, betas=(config.beta1, config.beta2))
        for net in (discriminator, generator)
    ]
    loss = GAN_LOSSES[config.loss]
    batches = TensorBatches(torch.from_numpy(images), batch_size=config.batch_size, seed=0, transform=augment)
    done = 0

    def endless() -> Iterator[torch.Tensor]:
        epoch = 0
        while True:
            for (batch,) in batches.epoch(epoch):
                yield batch
            epoch += 1

    following = endless()

    def step() -> int:
        nonlocal done
        real, penalized = next(following), bool(config.gradient_penalty) and done % config.penalty_every == 0
        done += 1
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            fake = generator(torch.randn(config.batch_size, config.noise_dim)).float()
            seen = [pictures.detach().requires_grad_(penalized) for pictures in (real, fake)]
            of_real, of_fake = (discriminator(pictures).float() for pictures in seen)
            total = loss.discriminator(of_real, of_fake)
            if penalized:
                penalty = zero_centered_penalty(of_real, seen[0]) + zero_centered_penalty(of_fake, seen[1])
                total = total + config.gradient_penalty / 2 * config.penalty_every * penalty
        total.backward()
        adams[0].step()
        adams[0].zero_grad()
        discriminator.requires_grad_(False)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            with torch.no_grad():
                of_real = discriminator(real).float() if loss.relativistic else of_real
            loss.generator(of_real, discriminator(fake).float()).backward()
        adams[1].step()
        adams[1].zero_grad()
        discriminator.requires_grad_(True)
        return config.batch_size

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=1024, help="in a round, of each program")
    parser.add_argument("--data", default="anime-faces-64")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    bf16 = computes_in_bf16(torch.device("cpu"))
    images = data.resolve(options.data, (options.data,)).load().train
    programs = {
        "dcgan": ours(Config(**PRESETS["dcgan"]), images, bf16),
        "style": ours(Config(), images, bf16),
        "plain": plain(images),
    }
    speeds: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(options.rounds + 1):
        for name, step in programs.items():
            begun, pictures = time.perf_counter(), 0
            while pictures < options.pictures:
                pictures += step()
            if number:  # the first warms up
                speeds[name].append(pictures / (time.perf_counter() - begun))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    result = {
        "pictures_per_second": {name: round(value, 1) for name, value in medians.items()},
        "dcgan_over_plain": round(medians["dcgan"] / medians["plain"], 2),
        "style_over_plain": round(medians["style"] / medians["plain"], 2),
        "rounds": options.rounds,
        "precision": "bf16" if bf16 else "fp32",
        "threads": torch.get_num_threads(),
        "hardware": describe(),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in result.items() if name != "hardware"}))


if __name__ == "__main__":
    main()
