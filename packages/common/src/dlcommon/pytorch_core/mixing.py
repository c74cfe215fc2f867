"""Mixup and CutMix: each image of a batch is mixed with another one, and so are their targets.

The partner of image i is image i − 1 of the batch, which shuffling has made a random one. Every image has a share of
its own. Images are [batch, channels, height, width] on any device; targets are probabilities [batch, classes], which
`one_hot` makes of labels and `losses.cross_entropy` takes. All randomness comes from the generator given, which draws
on the CPU.
"""

import numpy as np
import torch
from torch.nn import functional as F


def one_hot(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Indices [batch] to float32 probabilities [batch, classes]."""
    return F.one_hot(labels, classes).float()


def beta(n: int, alpha: float, generator: torch.Generator) -> torch.Tensor:
    """n draws from Beta(alpha, alpha), symmetric about 1/2: at 1 even, below it mostly near 0 and 1.

    Raises:
        ValueError: `alpha` is not positive.
    """
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, not {alpha}")
    # torch's Beta takes no generator; NumPy's is seeded by a draw from the one given.
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    return torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, n)).float()


def blend(values: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """share · value + (1 − share) · partner's value, sample by sample.

    Args:
        values: [batch, …], images or targets.
        share: [batch], in 0 … 1.

    Raises:
        ValueError: the values are integers, which have no place for a share.
    """
    if not values.is_floating_point():
        raise ValueError(f"blending needs floating-point values, not {values.dtype}")
    share = share.to(values).reshape(-1, *[1] * (values.dim() - 1))
    return share * values + (1 - share) * values.roll(1, dims=0)


def paste(images: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Replaces what lies in each image's box by what lies there in its partner.

    Args:
        boxes: [batch, 4], integers: left, top, right, bottom in pixels, the last two excluded.
    """
    height, width = images.shape[-2:]
    left, top, right, bottom = boxes[:, :, None].unbind(1)  # each [batch, 1]
    rows, columns = torch.arange(height), torch.arange(width)
    inside_rows, inside_columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    inside = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]  # [batch, 1, height, width]
    return torch.where(inside.to(images.device), images.roll(1, dims=0), images)


def random_boxes(share: torch.Tensor, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Boxes [batch, 4] that leave about `share` of each image: centred anywhere, cut off at the rim.

    Yun et al. 2019, section 3.1: both sides are √(1 − share) of the image's.
    """
    half = (1 - share).sqrt() / 2
    half_width, half_height = (half * width).long(), (half * height).long()
    column = torch.randint(width, (len(share),), generator=generator)
    row = torch.randint(height, (len(share),), generator=generator)
    near = torch.stack([column - half_width, row - half_height], dim=1)
    far = torch.stack([column + half_width, row + half_height], dim=1)
    limit = torch.tensor([width, height])
    return torch.cat([near.clamp_min(0), far.minimum(limit)], dim=1)


def mixup(
    images: torch.Tensor, targets: torch.Tensor, generator: torch.Generator, alpha: float = 0.2
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted sums of images and of targets, with shares from Beta(alpha, alpha).

    Zhang et al. 2018 (https://arxiv.org/abs/1710.09412), equation 1.

    Raises:
        ValueError: `alpha` is not positive, or there is not one row of targets an image.
    """
    _require_rows(images, targets)
    share = beta(len(images), alpha, generator)
    return blend(images, share), blend(targets, share)


def cutmix(
    images: torch.Tensor, targets: torch.Tensor, generator: torch.Generator, alpha: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """A box of each image comes from its partner; the targets are mixed by area.

    Yun et al. 2019 (https://arxiv.org/abs/1905.04899), equation 1.

    Raises:
        ValueError: `alpha` is not positive, or there is not one row of targets an image.
    """
    _require_rows(images, targets)
    height, width = images.shape[-2:]
    boxes = random_boxes(beta(len(images), alpha, generator), height, width, generator)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return paste(images, boxes), blend(targets, 1 - area / (height * width))


def _require_rows(images: torch.Tensor, targets: torch.Tensor) -> None:
    if targets.dim() != 2 or len(targets) != len(images):
        raise ValueError(
            f"{len(images)} images need targets [{len(images)}, classes], not {list(targets.shape)}; see one_hot"
        )
