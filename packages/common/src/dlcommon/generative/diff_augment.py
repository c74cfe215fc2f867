"""Differentiable augmentation (Zhao et al. 2020, https://arxiv.org/abs/2006.10738): both real and generated images are
changed at random before the discriminator sees them, with gradients, so that it can memorize less of few images.

Shapes: images [batch, 3, height, width] in [−1, 1]; random numbers come from the generator given, for the whole batch.
"""

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F

TRANSLATION, CUTOUT = 0.125, 0.5
"""Largest shift, and the side of the square that is blanked, as shares of the image."""


def _uniform(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draws a number in [−0.5, 0.5) for each image: [batch, 1, 1, 1]."""
    drawn = torch.rand(len(images), 1, 1, 1, generator=generator) - 0.5
    return drawn.to(images)


def _integers(images: torch.Tensor, low: int, high: int, generator: torch.Generator) -> torch.Tensor:
    """Draws a whole number from `low` to below `high` for each image: [batch, 1, 1]."""
    return torch.randint(low, high, (len(images), 1, 1), generator=generator).to(images.device)


def colour(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shifts the brightness by up to a half, and scales the saturation by 0 to 2 and the contrast by 0.5 to 1.5."""
    images = images + _uniform(images, generator)
    gray = images.mean(dim=1, keepdim=True)
    images = gray + (images - gray) * (2 * _uniform(images, generator) + 1)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * (_uniform(images, generator) + 1)


def translation(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shifts each image by up to an eighth of its sides; what comes in at the edges is 0."""
    height, width = images.shape[2:]
    reach_y, reach_x = (int(side * TRANSLATION + 0.5) for side in (height, width))
    rows = torch.arange(height, device=images.device)[:, None] + 1
    columns = torch.arange(width, device=images.device)[None, :] + 1
    # Places in the padded image, one pixel of 0 around; whatever lies outside is read from that edge.
    rows = (rows + _integers(images, -reach_y, reach_y + 1, generator)).clamp(0, height + 1)  # [batch, height, 1]
    columns = (columns + _integers(images, -reach_x, reach_x + 1, generator)).clamp(0, width + 1)  # [batch, 1, width]
    padded = F.pad(images, (1, 1, 1, 1)).permute(0, 2, 3, 1)  # [batch, height + 2, width + 2, 3]
    which = torch.arange(len(images), device=images.device)[:, None, None]
    return padded[which, rows, columns].permute(0, 3, 1, 2)


def cutout(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Blanks a square of half the image's sides, anywhere, in part outside."""
    height, width = images.shape[2:]
    tall, wide = (int(side * CUTOUT + 0.5) for side in (height, width))
    top = _integers(images, -(tall // 2), height - tall // 2 + 1, generator)
    left = _integers(images, -(wide // 2), width - wide // 2 + 1, generator)
    rows = torch.arange(height, device=images.device)[:, None]
    columns = torch.arange(width, device=images.device)[None, :]
    blank = (rows >= top) & (rows < top + tall) & (columns >= left) & (columns < left + wide)
    return images * ~blank[:, None]


AUGMENTATIONS: dict[str, Callable[[torch.Tensor, torch.Generator], torch.Tensor]] = {
    "colour": colour,
    "translation": translation,
    "cutout": cutout,
}


def diff_augment(images: torch.Tensor, names: Sequence[str], generator: torch.Generator) -> torch.Tensor:
    """Applies the augmentations named, in their order.

    Raises:
        KeyError: a name is not in `AUGMENTATIONS`.
    """
    for name in names:
        images = AUGMENTATIONS[name](images, generator)
    return images
