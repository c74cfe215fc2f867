"""Augmentation of whole batches of images by a few tensor operations, instead of a Python call per image.

Images are [batch, channels, height, width], on any device. All randomness comes from the generator, which draws on the
CPU, so that every device sees the same augmentation.
"""

import torch
from torch.nn import functional as F

from dlcommon.pytorch_core.transfer import to_device


def random_horizontal_flip(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Flips each image left to right with probability 1/2."""
    flipped = to_device(torch.rand(len(images), generator=generator) < 0.5, images.device)
    return torch.where(flipped[:, None, None, None], images.flip(-1), images)


def random_crop(images: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
    """Crops a random square of `size` from each image; if images are padded by p, this shifts them by up to p.

    Returns:
        [batch, channels, size, size], in channels_last memory.
    """

    def positions(length: int) -> torch.Tensor:
        """Draws the rows or columns that each crop consists of, [batch, size]."""
        start = torch.randint(length - size + 1, (len(images), 1), generator=generator)
        return to_device(start, images.device) + torch.arange(size, device=images.device)  # [batch, size]

    rows, columns = positions(images.size(-2)), positions(images.size(-1))
    sample = torch.arange(len(images), device=images.device)[:, None, None]  # [batch, 1, 1]
    # Indices [batch, 1, 1], [batch, size, 1] and [batch, 1, size] broadcast; a slice between them puts the channels
    # last: [batch, size, size, channels].
    return images[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def pad_reflect(images: torch.Tensor, padding: int) -> torch.Tensor:
    """Adds `padding` mirrored pixels on every side, like `F.pad(…, mode="reflect")`, but for any dtype."""

    def mirrored(length: int) -> torch.Tensor:
        """Lists the source of each padded pixel along one axis."""
        position = torch.arange(-padding, length + padding).abs()
        return torch.where(position >= length, 2 * (length - 1) - position, position)

    return images[:, :, mirrored(images.size(2))][:, :, :, mirrored(images.size(3))]


def cutout(images: torch.Tensor, size: int, generator: torch.Generator, fill: float = 0.0) -> torch.Tensor:
    """Fills a random square of each image (DeVries & Taylor 2017, https://arxiv.org/abs/1708.04552)."""
    height, width = images.shape[-2:]

    def covered(length: int) -> torch.Tensor:
        """Marks the rows or columns of each image's square, [batch, length]."""
        start = to_device(torch.randint(length - size + 1, (len(images), 1), generator=generator), images.device)
        position = torch.arange(length, device=images.device)
        return (position >= start) & (position < start + size)  # [batch, length]

    # A pixel is covered if its row and its column are: [batch, height, width].
    mask = covered(height)[:, :, None] & covered(width)[:, None, :]
    return images.masked_fill(mask[:, None], fill)


def random_affine(
    images: torch.Tensor,
    generator: torch.Generator,
    degrees: float = 0.0,
    translate: float = 0.0,
    scale: float = 0.0,
    shear: float = 0.0,
    elastic: float = 0.0,
) -> torch.Tensor:
    """Rotates, shifts, scales and shears each square image about its center; pixels from outside are 0.

    Args:
        images: floating point.
        generator: of all draws; on the CPU.
        degrees: largest rotation either way.
        translate: largest shift either way, as a fraction of the width.
        scale: largest relative change of size either way.
        shear: largest shear factor either way.
        elastic: also deforms each image, by `smooth_displacement` of so many pixels.
    """

    def uniform(limit: float) -> torch.Tensor:
        """Draws from ±limit, [batch]."""
        return to_device((torch.rand(len(images), generator=generator) * 2 - 1) * limit, images.device)

    angle = torch.deg2rad(uniform(degrees))
    # The map goes from output to input, so scaling up divides.
    size, slant = 1 / (1 + uniform(scale)), uniform(shear)
    cosine, sine = angle.cos() * size, angle.sin() * size
    # Rows of the inverse map, from output to input coordinates in [-1, 1]: rotation · shear, then the shift.
    first = torch.stack([cosine, cosine * slant - sine, uniform(2 * translate)], dim=1)
    second = torch.stack([sine, sine * slant + cosine, uniform(2 * translate)], dim=1)
    grid = F.affine_grid(torch.stack([first, second], dim=1), list(images.shape), align_corners=False)
    if elastic:
        height, width = images.shape[-2:]
        pixels = elastic * smooth_displacement(len(images), height, width, generator, device=images.device)
        # The grid counts from −1 to 1 over the image: 2 per width.
        grid = grid + 2 * pixels / torch.tensor([width, height], device=images.device)
    return F.grid_sample(images, grid.to(images.dtype), align_corners=False)


def smooth_displacement(
    n: int, height: int, width: int, generator: torch.Generator, grain: int = 5, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Draws vectors that change smoothly over an image, for elastic deformation like that of handwriting.

    Simard et al. 2003 ("Best practices for convolutional neural networks", section 2) smooth noise at every pixel
    with a Gaussian; here noise is drawn at `grain` × `grain` points and interpolated, which is as smooth and faster.

    Returns:
        [n, height, width, 2], x before y, of standard deviation 1 at those points.
    """
    coarse = to_device(torch.randn(n, 2, grain, grain, generator=generator), device)
    return F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
