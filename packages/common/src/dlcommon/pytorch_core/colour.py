"""Colour operations on whole batches, each image with a strength of its own.

Images are [batch, channels, height, width] of one or three channels, floating point in 0 … 1, on any device; strengths
are [batch]. Values are those of torchvision's `adjust_…` functions, which take one strength for all. Everything that
has a derivative is differentiable, so that images a network made can be augmented while it learns.
"""

import torch
from torch.nn import functional as F

LUMA = (0.2989, 0.587, 0.114)
"""How bright red, green and blue appear (ITU-R BT.601)."""


def _each(strength: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return strength.to(images).reshape(-1, 1, 1, 1)


def _between(images: torch.Tensor, anchor: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """From the anchor (factor 0) through the image (1) and beyond it (above 1), cut to 0 … 1."""
    share = _each(factor, images)
    return (share * images + (1 - share) * anchor).clamp(0, 1)


def greyscale(images: torch.Tensor) -> torch.Tensor:
    """Brightness as it appears, [batch, 1, height, width].

    Raises:
        ValueError: there are neither one nor three channels.
    """
    if images.size(1) == 1:
        return images
    if images.size(1) != 3:
        raise ValueError(f"colours need one or three channels, not {images.size(1)}")
    red, green, blue = images.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).unsqueeze(1)


def adjust_brightness(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """0 is black, 1 the image."""
    return (_each(factor, images) * images).clamp(0, 1)


def adjust_contrast(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """0 is even grey of the mean brightness, 1 the image."""
    return _between(images, greyscale(images).mean((1, 2, 3), keepdim=True), factor)


def adjust_saturation(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """0 is the greyscale image, 1 the image."""
    return _between(images, greyscale(images), factor)


def adjust_hue(images: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Turns the colour wheel: 1/3 makes red green, 1/2 and −1/2 are opposite colours, 0 is the image.

    Hue, saturation and value of Smith 1978; what is grey stays as it is.
    """
    if images.size(1) == 1:
        return images
    red, green, blue = images.unbind(1)
    value, chroma = images.amax(1), images.amax(1) - images.amin(1)
    divisor = torch.where(chroma == 0, 1.0, chroma)
    # Sixths of the wheel from the strongest channel: red at 0, green at 2, blue at 4.
    sixths = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    sixths = sixths + 6 * turn.to(images)[:, None, None]

    def channel(offset: int) -> torch.Tensor:
        """How far the wheel has turned away from this channel decides how much of the chroma it lacks."""
        away = (sixths + offset) % 6
        return value - chroma * torch.minimum(away, 4 - away).clamp(0, 1)

    return torch.stack([channel(5), channel(3), channel(1)], dim=1)


def adjust_sharpness(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """0 is smoothed by a 3×3 kernel, 1 the image; the outermost pixels stay as they are."""
    kernel = torch.tensor([[1, 1, 1], [1, 5, 1], [1, 1, 1]]).to(images)
    channels = images.size(1)
    weights = (kernel / 13).expand(channels, 1, 3, 3)
    smooth = F.conv2d(images, weights, groups=channels)  # without the outermost pixels
    inner = _between(images[:, :, 1:-1, 1:-1], smooth, factor)
    result = images.clone()
    result[:, :, 1:-1, 1:-1] = inner
    return result


def posterize(images: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """Keeps 2^bits levels of each channel."""
    levels = 2 ** _each(bits, images)
    return (images * levels).floor().minimum(levels - 1) / levels


def solarize(images: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """Inverts what is at least as bright as the threshold."""
    return torch.where(images >= _each(threshold, images), 1 - images, images)


def autocontrast(images: torch.Tensor) -> torch.Tensor:
    """Stretches each channel to 0 … 1; an even one stays as it is."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    even = high == low
    return ((images - low.where(~even, 0)) / (high - low).where(~even, 1)).clamp(0, 1)


def equalize(images: torch.Tensor) -> torch.Tensor:
    """Gives each channel an even histogram over 256 levels, as Pillow's `ImageOps.equalize` does."""
    levels = (images * 255.999).long().flatten(2)  # [batch, channels, pixels]
    counts = levels.new_zeros(*levels.shape[:2], 256).scatter_add_(2, levels, torch.ones_like(levels))
    brightest = levels.amax(2, keepdim=True)
    step = (levels.size(2) - counts.gather(2, brightest)) // 255  # pixels to a level, without the brightest's own
    below = counts.cumsum(2) - counts
    table = ((below + step // 2) // step.clamp_min(1)).clamp_max(255)
    table = torch.where(step > 0, table, torch.arange(256, device=images.device))
    return (table.gather(2, levels).to(images) / 255).reshape(images.shape)


def colour_jitter(
    images: torch.Tensor,
    generator: torch.Generator,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
) -> torch.Tensor:
    """Random brightness, contrast, saturation and hue for each image, in an order drawn for the batch.

    Args:
        generator: decides everything; on the CPU.
        brightness: factors are drawn evenly from 1 ± brightness, but not below 0; contrast and saturation alike.
        hue: turns are drawn evenly from ± hue, at most 0.5.

    Raises:
        ValueError: a limit is negative, or `hue` is above 0.5.
    """
    limits = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
    for name, limit in limits.items():
        if limit < 0 or (name == "hue" and limit > 0.5):
            raise ValueError(f"{name} must be at least 0{' and at most 0.5' if name == 'hue' else ''}, not {limit}")

    def uniform(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(len(images), generator=generator)

    operations = [adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue]
    factors = [uniform(max(0.0, 1 - limit), 1 + limit) for limit in (brightness, contrast, saturation)]
    factors.append(uniform(-hue, hue))
    for number in torch.randperm(4, generator=generator).tolist():
        images = operations[number](images, factors[number])
    return images
