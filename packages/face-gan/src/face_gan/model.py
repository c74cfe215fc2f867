"""The networks, and the graph that is exported.

Shapes: noise [batch, blocks, dim]; images [batch, 3, 64, 64] in [−1, 1] while training, [batch, 64, 64, 3] in [0, 1] as
exported.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from dlcommon.generative.dcgan import Discriminator, Generator
from dlcommon.generative.style_gan import ResidualDiscriminator, StyleGenerator
from dlcommon.runtime.batches import generator_for
from dlcommon.runtime.export.graph import ExportGraph
from dlcommon.runtime.saved_run import SavedRun
from torch import nn

from face_gan.config import Config
from face_gan.latents import COMPONENTS, Latents
from face_gan.pictures import as_pixels

SIZE = 64
"""Pixels of a picture's sides."""
STYLES = 10_000
"""Styles drawn to find their mean and their principal components."""


def build(config: Config) -> tuple[StyleGenerator | Generator, nn.Module]:
    """Builds the config's generator and discriminator, with random weights."""
    if config.network == "dcgan":
        generator = Generator(SIZE, latent_dim=config.noise_dim, width=config.generator_width)
        return generator, Discriminator(SIZE, width=config.discriminator_width)
    discriminator = ResidualDiscriminator(config.discriminator_width, 8 * config.discriminator_width, SIZE)
    return StyleGenerator(
        config.generator_width, 4 * config.generator_width, config.noise_dim, size=SIZE
    ), discriminator


class InferenceModel(nn.Module):
    """Adds truncation and latent directions to a generator, and turns its images into pixels: this is exported.

    The directions of styles are their principal components (GANSpace, Härkönen et al. 2020,
    https://arxiv.org/abs/2004.02546), those of plain noise the singular vectors of the first layer (SeFa, Shen & Zhou
    2021, https://arxiv.org/abs/2007.06600), each scaled to one standard deviation.
    """

    mean: torch.Tensor
    directions: torch.Tensor

    def __init__(self, generator: StyleGenerator | Generator) -> None:
        super().__init__()
        self.generator = generator
        if isinstance(generator, StyleGenerator):
            noise = torch.randn(STYLES, generator.noise_dim, generator=generator_for("styles"))
            with torch.no_grad():
                styles = generator.mapping(noise)
            mean = styles.mean(dim=0)
            _, scales, vectors = torch.linalg.svd(styles - mean, full_matrices=False)
            directions = vectors[:COMPONENTS] * (scales[:COMPONENTS, None] / STYLES**0.5)
        else:
            mean = torch.zeros(generator.latent_dim)
            weight = generator.convolutions[0].get_parameter("weight").detach()  # [dim, channels, 4, 4]
            directions = torch.linalg.svd(weight.flatten(1).T, full_matrices=False).Vh[:COMPONENTS]
        if len(directions) < COMPONENTS:  # of very narrow networks
            directions = torch.cat((directions, directions.new_zeros(COMPONENTS - len(directions), len(mean))))
        # A vector may point either way: the largest entry is positive, so that two machines agree.
        largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
        self.register_buffer("mean", mean)
        self.register_buffer("directions", directions * torch.where(largest < 0, -1.0, 1.0))

    @property
    def latents(self) -> Latents:
        if isinstance(self.generator, StyleGenerator):
            return Latents(self.generator.num_blocks, self.generator.noise_dim)
        return Latents(1, self.generator.latent_dim)

    def forward(self, noise: torch.Tensor, truncation: torch.Tensor, components: torch.Tensor) -> torch.Tensor:
        """Draws pictures.

        Args:
            noise: [batch, blocks, dim].
            truncation: [batch], ψ: how far styles may be from their mean; 1 leaves them as they are.
            components: [batch, COMPONENTS], how far to go along each direction, in standard deviations.
        """
        styles = self.generator.mapping(noise) if isinstance(self.generator, StyleGenerator) else noise
        moved = (components @ self.directions)[:, None]
        styles = self.mean + truncation[:, None, None] * (styles - self.mean) + moved
        if isinstance(self.generator, StyleGenerator):
            images = self.generator.synthesize(styles)
        else:
            images = self.generator(styles[:, 0])
        return (images.float().clamp(-1, 1).permute(0, 2, 3, 1) + 1) / 2


def pixels(images: torch.Tensor) -> np.ndarray:
    """Turns images as a generator makes them into uint8 [batch, 64, 64, 3]."""
    return as_pixels(((images.float().permute(0, 2, 3, 1) + 1) / 2).cpu().numpy())


def export_graph(saved: SavedRun[Config]) -> ExportGraph:
    """Returns a finished run's generator as it is exported."""
    generator, _ = build(saved.config)
    generator.load_state_dict(saved.weights())
    return generator_graph(generator, saved.config.network)


def generator_graph(generator: StyleGenerator | Generator, network: str) -> ExportGraph:
    """Returns a generator as a graph."""
    module = InferenceModel(generator.eval())
    latents = module.latents
    metadata = {"latents": str(latents), "network": network}
    example = dict(latents.inputs(latents.sample(2, 0)))
    return ExportGraph(module.eval(), example, ("images",), metadata, calibration=partial(calibration, latents))


def calibration(latents: Latents, batches: int = 8, batch: int = 32) -> Iterator[dict[str, np.ndarray]]:
    """Yields noise to quantize with."""
    for number in range(batches):
        yield dict(latents.inputs(latents.sample(batch, number)))
