"""Mixtures of Gaussians in the plane, on which mode collapse is counted (Metz et al. 2017; Srivastava et al. 2017)."""

import math
from dataclasses import dataclass

import torch


def ring_centers(modes: int = 8, radius: float = 2.0) -> torch.Tensor:
    """Places centers evenly on a circle, [modes, 2]."""
    angles = 2 * math.pi * torch.arange(modes) / modes
    return radius * torch.stack((angles.cos(), angles.sin()), dim=1)


def grid_centers(side: int = 5, spacing: float = 1.0) -> torch.Tensor:
    """Places centers on a square grid around the origin, [side², 2]."""
    places = spacing * (torch.arange(side) - (side - 1) / 2)
    return torch.cartesian_prod(places, places)


def sample_mixture(
    centers: torch.Tensor, std: float, count: int, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Draws from Gaussians of equal weight around the centers, [count, dim]."""
    modes = torch.randint(len(centers), (count,), generator=generator)
    return centers[modes] + std * torch.randn(count, centers.size(1), generator=generator)


@dataclass(frozen=True)
class ModeCoverage:
    covered: int
    """Modes that are the nearest of at least `least` good samples."""
    good: float
    """Fraction of the samples within three standard deviations of a center."""
    reverse_kl: float
    """KL(shares of the modes ‖ uniform) of the good samples, in nats: 0 if even, log of the number of modes if all is
    in one; nan without a good sample."""


def mode_coverage(samples: torch.Tensor, centers: torch.Tensor, std: float, least: int = 1) -> ModeCoverage:
    """Counts which modes of a mixture samples fall into.

    Args:
        samples: [count, dim].
        centers: [modes, dim].
        std: of each Gaussian, the same in all directions.
        least: good samples that make a mode covered.
    """
    distances, nearest = torch.cdist(samples, centers).min(dim=1)  # each [count]
    good = distances <= 3 * std
    counts = torch.bincount(nearest[good], minlength=len(centers)).double()  # [modes]
    shares = counts / counts.sum()
    return ModeCoverage(
        covered=int((counts >= least).sum()),
        good=good.double().mean().item(),
        reverse_kl=(torch.xlogy(shares, shares).sum() + math.log(len(centers))).item(),
    )
