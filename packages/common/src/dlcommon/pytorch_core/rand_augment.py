"""RandAugment (Cubuk et al. 2020, https://arxiv.org/abs/1909.13719) on whole batches.

Each image gets operations of its own. Images that drew the same one are processed together, so that a batch of any size
takes at most one call per operation. Images are [batch, channels, height, width], floating point in 0 … 1.
"""

from collections.abc import Callable

import torch
from torch.nn import functional as F

from dlcommon.pytorch_core.color import (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    adjust_sharpness,
    autocontrast,
    equalize,
    posterize,
    solarize,
)

Operation = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Takes images and a level in −1 … 1 for each; operations without a direction use its absolute value."""


def warp(images: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """Applies affine maps by bilinear interpolation; pixels from outside are 0.

    Args:
        images: to warp.
        matrices: [batch, 2, 3]; each maps a pixel (x, y, 1) of the result, counted from the center, to the pixel of
            the image that is shown there.
    """
    height, width = images.shape[-2:]
    half = torch.tensor([width / 2, height / 2, 1.0])
    # affine_grid counts from −1 to 1 instead.
    grid = F.affine_grid(matrices * half / half[:2, None], list(images.shape), align_corners=False)
    return F.grid_sample(images, grid.to(images), align_corners=False)


def _matrices(*rows: tuple[torch.Tensor | float, ...]) -> torch.Tensor:
    """Builds [batch, 2, 3] from two rows of three entries, each a number or [batch]."""
    entries = torch.broadcast_tensors(*(torch.as_tensor(entry, dtype=torch.float32) for row in rows for entry in row))
    return torch.stack(entries, dim=-1).reshape(-1, 2, 3)


def rotate(images: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    """Rotates counterclockwise about the center; degrees [batch]."""
    cosine, sine = torch.deg2rad(degrees).cos(), torch.deg2rad(degrees).sin()
    return warp(images, _matrices((cosine, -sine, 0.0), (sine, cosine, 0.0)))


def translate(images: torch.Tensor, right: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """Translates by whole pixels, [batch] each; fractions are truncated, so that nothing is blurred."""
    return warp(images, _matrices((1.0, 0.0, -right.trunc()), (0.0, 1.0, -down.trunc())))


def shear(images: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Shears left by x and up by y, in pixels per pixel; the top left corner stays, as in AutoAugment."""
    height, width = images.shape[-2:]
    return warp(images, _matrices((1.0, x, x * height / 2), (y, 1.0, y * width / 2)))


FURTHEST = 150 / 331
"""Of a side: the paper's largest shift, on images of 331 pixels."""

OPERATIONS: dict[str, Operation] = {
    "Identity": lambda images, level: images,
    "ShearX": lambda images, level: shear(images, 0.3 * level, 0 * level),
    "ShearY": lambda images, level: shear(images, 0 * level, 0.3 * level),
    "TranslateX": lambda images, level: translate(images, FURTHEST * images.size(3) * level, 0 * level),
    "TranslateY": lambda images, level: translate(images, 0 * level, FURTHEST * images.size(2) * level),
    "Rotate": lambda images, level: rotate(images, 30 * level),
    "Brightness": lambda images, level: adjust_brightness(images, 1 + 0.9 * level),
    "Color": lambda images, level: adjust_saturation(images, 1 + 0.9 * level),
    "Contrast": lambda images, level: adjust_contrast(images, 1 + 0.9 * level),
    "Sharpness": lambda images, level: adjust_sharpness(images, 1 + 0.9 * level),
    "Posterize": lambda images, level: posterize(images, (8 - 4 * level.abs()).round()),
    "Solarize": lambda images, level: solarize(images, 1 - level.abs()),
    "AutoContrast": lambda images, level: autocontrast(images),
    "Equalize": lambda images, level: equalize(images),
}
"""The paper's fourteen operations, with torchvision's ranges."""

LEVELS = 30
"""Largest magnitude."""


def rand_augment(
    images: torch.Tensor, generator: torch.Generator, num_ops: int = 2, magnitude: float = 9
) -> torch.Tensor:
    """Applies random operations to each image, one after the other, all at one magnitude.

    Args:
        images: to augment.
        generator: of all draws; on the CPU.
        num_ops: N of the paper, the number of operations for each image.
        magnitude: M of the paper, 0 … 30; the direction is random.

    Raises:
        ValueError: `magnitude` is outside 0 … 30.
    """
    if not 0 <= magnitude <= LEVELS:
        raise ValueError(f"magnitude must lie in 0 … {LEVELS}, not {magnitude}")
    for _ in range(num_ops):
        # One operation and one sign per image, [batch].
        drawn = torch.randint(len(OPERATIONS), (len(images),), generator=generator)
        direction = 2 * torch.randint(2, (len(images),), generator=generator) - 1
        level = magnitude / LEVELS * direction
        result = torch.empty_like(images)
        for number, operation in enumerate(OPERATIONS.values()):
            chosen = (drawn == number).nonzero().squeeze(1)
            if len(chosen):
                result[chosen] = operation(images[chosen], level[chosen])
        images = result
    return images
