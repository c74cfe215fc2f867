"""Mixup and CutMix: each image of a batch is mixed with another one, and their targets alike.

The partner of image i is image i − 1 of the batch, a random one if the batch is shuffled. Every image has a mixing
coefficient of its own, λ, called `lam`. Images are [batch, channels, height, width] on any device; targets are
probabilities [batch, num_classes], which `one_hot` makes of labels and `losses.cross_entropy` takes. All randomness
comes from the generator, which draws on the CPU.
"""

import numpy as np
import torch
from torch.nn import functional as F


def one_hot(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Converts labels int64 [batch] to float32 probabilities [batch, num_classes]."""
    return F.one_hot(labels, num_classes).float()


def sample_beta(n: int, alpha: float, generator: torch.Generator) -> torch.Tensor:
    """Draws n numbers from Beta(alpha, alpha), symmetric about 1/2: uniform at 1, below it mostly near 0 and 1.

    Raises:
        ValueError: `alpha` is not positive.
    """
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, not {alpha}")
    # torch's Beta takes no generator; NumPy's is seeded by a draw from the one given.
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    return torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, n)).float()


def blend(values: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
    """Computes λ · value + (1 − λ) · partner's value for each sample.

    Args:
        values: [batch, …], images or targets.
        lam: [batch], in 0 … 1.

    Raises:
        ValueError: the values are integers, which cannot hold a weighted sum.
    """
    if not values.is_floating_point():
        raise ValueError(f"blending needs floating-point values, not {values.dtype}")
    weight = lam.to(values).reshape(-1, *[1] * (values.dim() - 1))  # [batch, 1, …]
    return weight * values + (1 - weight) * values.roll(1, dims=0)


def paste_boxes(images: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Replaces the pixels inside each image's box by its partner's.

    Args:
        images: [batch, channels, height, width].
        boxes: int64 [batch, 4]: left, top, right, bottom in pixels, the last two exclusive.
    """
    height, width = images.shape[-2:]
    left, top, right, bottom = boxes[:, :, None].unbind(1)  # each [batch, 1]
    rows, columns = torch.arange(height), torch.arange(width)
    inside_rows, inside_columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    inside = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]  # [batch, 1, height, width]
    return torch.where(inside.to(images.device), images.roll(1, dims=0), images)


def random_boxes(lam: torch.Tensor, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Draws boxes [batch, 4] that leave about λ of each image's area: centered anywhere, clipped at the border.

    Both sides are √(1 − λ) of the image's (Yun et al. 2019, section 3.1).
    """
    half = (1 - lam).sqrt() / 2
    half_width, half_height = (half * width).long(), (half * height).long()
    column = torch.randint(width, (len(lam),), generator=generator)
    row = torch.randint(height, (len(lam),), generator=generator)
    near = torch.stack([column - half_width, row - half_height], dim=1)
    far = torch.stack([column + half_width, row + half_height], dim=1)
    limit = torch.tensor([width, height])
    return torch.cat([near.clamp_min(0), far.minimum(limit)], dim=1)


def mixup(
    images: torch.Tensor, targets: torch.Tensor, generator: torch.Generator, alpha: float = 0.2
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes weighted sums of images and of targets, with λ from Beta(alpha, alpha).

    Zhang et al. 2018 (https://arxiv.org/abs/1710.09412), equation 1.

    Raises:
        ValueError: `alpha` is not positive, or there is not one row of targets per image.
    """
    _require_rows(images, targets)
    lam = sample_beta(len(images), alpha, generator)
    return blend(images, lam), blend(targets, lam)


def cutmix(
    images: torch.Tensor, targets: torch.Tensor, generator: torch.Generator, alpha: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Replaces a box of each image by its partner's pixels, and mixes the targets by area.

    Yun et al. 2019 (https://arxiv.org/abs/1905.04899), equation 1.

    Raises:
        ValueError: `alpha` is not positive, or there is not one row of targets per image.
    """
    _require_rows(images, targets)
    height, width = images.shape[-2:]
    boxes = random_boxes(sample_beta(len(images), alpha, generator), height, width, generator)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    # The area that the clipped box really has, not the λ that was drawn.
    return paste_boxes(images, boxes), blend(targets, 1 - area / (height * width))


def _require_rows(images: torch.Tensor, targets: torch.Tensor) -> None:
    if targets.dim() != 2 or len(targets) != len(images):
        raise ValueError(
            f"{len(images)} images need targets [{len(images)}, num_classes], not {list(targets.shape)}; see one_hot"
        )
