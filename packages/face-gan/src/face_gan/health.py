"""How an adversarial training fares: whether the discriminator memorizes, and whether the generator has collapsed."""

import numpy as np

from face_gan.pictures import block_means

COLLAPSED = 0.4
"""Samples that differ less than this share of what real pictures do are said to have collapsed."""
COARSE = 8
"""Sides of the pictures that are compared: what differs must be more than texture."""


def diversity(pictures: np.ndarray) -> float:
    """Computes the mean distance of two pictures, in gray levels a pixel, once they are made small.

    Args:
        pictures: uint8 [samples, height, width, 3], at least two.
    """
    small = block_means(pictures, COARSE).astype(np.float64)
    samples = len(small)
    squares = (small**2).sum(axis=1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * small @ small.T, 0) / small.shape[1])
    return float(distances.sum() / (samples * (samples - 1)))


def overfitting(train: float, held_out: float, fake: float) -> float:
    """Computes how much closer than training pictures the discriminator puts held-out ones to generated ones.

    0: no difference; 1: held-out pictures look as false as generated ones (r_v of Karras et al. 2020, equation 1,
    https://arxiv.org/abs/2006.06676).

    Args:
        train: the mean score of training pictures.
        held_out: that of held-out pictures.
        fake: that of generated ones.
    """
    return (train - held_out) / (train - fake) if train != fake else 0.0


def warning(relative_diversity: float, memorized: float) -> str | None:
    """Says what goes wrong and what to try; None if nothing does."""
    if relative_diversity < COLLAPSED:
        return (
            f"mode collapse: samples differ only {relative_diversity:.0%} as much as real pictures do; try a larger "
            f"--gradient-penalty, a lower --learning-rate, or --loss relativistic"
        )
    if memorized > 0.5:
        return (
            f"the discriminator has memorized its pictures: it puts held-out ones {memorized:.0%} of the way to "
            f"generated ones; try --augment colour translation cutout, or more pictures"
        )
    return None
