"""The Wasserstein-1 distance in one dimension, and the weight clipping of the first Wasserstein GAN."""

from collections.abc import Iterable

import torch


def wasserstein_distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Computes W₁ of two empirical distributions on a line: ∫ |F⁻¹(t) − G⁻¹(t)| dt over t from 0 to 1.

    In one dimension the cheapest way to move one heap of earth into the other keeps the order: the smallest value goes
    to the smallest. So both are sorted; with n and m values, the quantile functions are constant between the levels
    i / n and j / m. Differentiable in both arguments.

    Args:
        x: [n] values of equal weight.
        y: [m] values of equal weight.

    Returns:
        A scalar, as scipy.stats.wasserstein_distance.

    Raises:
        ValueError: an argument is empty or not one-dimensional.
    """
    if x.dim() != 1 or y.dim() != 1 or not x.numel() or not y.numel():
        raise ValueError(f"values must be [n] and [m], not {list(x.shape)} and {list(y.shape)}")
    n, m = len(x), len(y)
    # Levels in units of 1 / (n m), so that they are whole numbers and compare exactly.
    ends = torch.cat((m * torch.arange(1, n + 1), n * torch.arange(1, m + 1))).unique().to(x.device)  # [≤ n + m − 1]
    widths = torch.diff(ends, prepend=ends.new_zeros(1)).to(x.dtype) / (n * m)
    sorted_x, sorted_y = x.sort().values, y.sort().values
    quantiles_x, quantiles_y = sorted_x[(ends - 1) // m], sorted_y[(ends - 1) // n]  # the value that covers each piece
    return (widths * (quantiles_x - quantiles_y).abs()).sum()


@torch.no_grad()
def clip_weights(parameters: Iterable[torch.nn.Parameter], limit: float) -> None:
    """Clamps all weights to −limit … limit, in place, after each update of the critic (Arjovsky et al. 2017).

    https://arxiv.org/abs/1701.07875, algorithm 1, with limit 0.01. Bounded weights bound the Lipschitz constant of the
    critic, at a value that depends on its depth and width.

    Raises:
        ValueError: `limit` is not positive.
    """
    if not limit > 0:
        raise ValueError(f"limit must be positive, not {limit}")
    for parameter in parameters:
        parameter.clamp_(-limit, limit)
