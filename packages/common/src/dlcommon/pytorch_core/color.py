"""Color operations on whole batches, each image with a factor of its own.

Images are [batch, channels, height, width] of one or three channels, floating point in 0 … 1, on any device; factors
are [batch]. Values are those of torchvision's functions of the same names, which take one factor for all images. What
has a derivative is differentiable, so that generated images can be augmented while the generator learns.
"""

import torch
from torch.nn import functional as F

LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in perceived brightness (ITU-R BT.601)."""


def _per_image(factor: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Reshapes [batch] to [batch, 1, 1, 1], of the images' dtype and device."""
    return factor.to(images).reshape(-1, 1, 1, 1)


def _blend(images: torch.Tensor, anchor: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Interpolates between the anchor (factor 0) and the image (1), or extrapolates (above 1), clamped to 0 … 1."""
    weight = _per_image(factor, images)
    return (weight * images + (1 - weight) * anchor).clamp(0, 1)


def rgb_to_grayscale(images: torch.Tensor) -> torch.Tensor:
    """Computes perceived brightness, [batch, 1, height, width].

    Raises:
        ValueError: the images have neither one nor three channels.
    """
    if images.size(1) == 1:
        return images
    if images.size(1) != 3:
        raise ValueError(f"color operations need one or three channels, not {images.size(1)}")
    red, green, blue = images.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).unsqueeze(1)


def adjust_brightness(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Multiplies brightness: factor 0 gives black, 1 the image."""
    return (_per_image(factor, images) * images).clamp(0, 1)


def adjust_contrast(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Adjusts contrast: factor 0 gives uniform gray of the mean brightness, 1 the image."""
    return _blend(images, rgb_to_grayscale(images).mean((1, 2, 3), keepdim=True), factor)


def adjust_saturation(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Adjusts saturation: factor 0 gives the grayscale image, 1 the image."""
    return _blend(images, rgb_to_grayscale(images), factor)


def adjust_hue(images: torch.Tensor, hue_factor: torch.Tensor) -> torch.Tensor:
    """Rotates hues: 1/3 turns red to green, 1/2 and −1/2 give complementary colors, 0 the image.

    Hue, saturation and value are those of Smith 1978; gray stays gray.
    """
    if images.size(1) == 1:
        return images
    red, green, blue = images.unbind(1)
    value, chroma = images.amax(1), images.amax(1) - images.amin(1)
    divisor = torch.where(chroma == 0, 1.0, chroma)
    # Hue in sixths of the color wheel, from the strongest channel: red at 0, green at 2, blue at 4.
    sixths = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    sixths = sixths + 6 * hue_factor.to(images)[:, None, None]

    def channel(offset: int) -> torch.Tensor:
        """Computes one channel: its distance on the wheel from the hue says how much of the chroma it lacks."""
        distance = (sixths + offset) % 6
        return value - chroma * torch.minimum(distance, 4 - distance).clamp(0, 1)

    return torch.stack([channel(5), channel(3), channel(1)], dim=1)


def adjust_sharpness(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Adjusts sharpness: factor 0 gives the image smoothed by a 3×3 kernel, 1 the image; border pixels stay as is."""
    kernel = torch.tensor([[1, 1, 1], [1, 5, 1], [1, 1, 1]]).to(images)
    channels = images.size(1)
    weights = (kernel / 13).expand(channels, 1, 3, 3)
    smooth = F.conv2d(images, weights, groups=channels)  # without the border, [batch, channels, height − 2, width − 2]
    inner = _blend(images[:, :, 1:-1, 1:-1], smooth, factor)
    result = images.clone()
    result[:, :, 1:-1, 1:-1] = inner
    return result


def posterize(images: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """Quantizes each channel to 2^bits levels."""
    levels = 2 ** _per_image(bits, images)
    return (images * levels).floor().minimum(levels - 1) / levels


def solarize(images: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """Inverts values at or above the threshold."""
    return torch.where(images >= _per_image(threshold, images), 1 - images, images)


def autocontrast(images: torch.Tensor) -> torch.Tensor:
    """Stretches each channel to 0 … 1; a uniform one stays as it is."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    uniform = high == low
    return ((images - low.where(~uniform, 0)) / (high - low).where(~uniform, 1)).clamp(0, 1)


def equalize(images: torch.Tensor) -> torch.Tensor:
    """Equalizes the histogram of each channel over 256 levels, as Pillow's `ImageOps.equalize` does."""
    levels = (images * 255.999).long().flatten(2)  # [batch, channels, pixels]
    counts = levels.new_zeros(*levels.shape[:2], 256).scatter_add_(2, levels, torch.ones_like(levels))
    brightest = levels.amax(2, keepdim=True)
    step = (levels.size(2) - counts.gather(2, brightest)) // 255  # pixels per level, not counting the brightest level's
    below = counts.cumsum(2) - counts  # pixels darker than each level, [batch, channels, 256]
    table = ((below + step // 2) // step.clamp_min(1)).clamp_max(255)
    table = torch.where(step > 0, table, torch.arange(256, device=images.device))
    return (table.gather(2, levels).to(images) / 255).reshape(images.shape)


def color_jitter(
    images: torch.Tensor,
    generator: torch.Generator,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
) -> torch.Tensor:
    """Changes brightness, contrast, saturation and hue of each image randomly, in an order drawn for the batch.

    Args:
        images: to augment.
        generator: of all draws; on the CPU.
        brightness: factors are uniform in 1 ± brightness, but not below 0.
        contrast: likewise.
        saturation: likewise.
        hue: factors are uniform in ± hue, at most 0.5.

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
