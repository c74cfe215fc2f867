"""Feature visualization: recorded activations, their maxima, and images that maximize an activation.

Shapes: images [batch, channels, height, width] from 0 to 1, feature maps [batch, channels, rows, columns].
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def record_outputs(network: nn.Module, *names: str) -> Iterator[dict[str, torch.Tensor]]:
    """Records the outputs of the named submodules at each call of the network inside the block.

    The tensors themselves are recorded, so that gradients flow to them and through them.

    Yields:
        The latest output of each submodule by name, empty until the network is called.

    Raises:
        ValueError: a submodule does not exist; names those that do.
    """
    modules = dict(network.named_modules())
    if missing := [name for name in names if name not in modules]:
        raise ValueError(f"no layer {missing[0]!r}; there are {', '.join(filter(None, modules))}")
    outputs: dict[str, torch.Tensor] = {}

    def record(name: str) -> Callable[[nn.Module, object, torch.Tensor], None]:
        return lambda module, inputs, output: outputs.update({name: output})

    handles = [modules[name].register_forward_hook(record(name)) for name in names]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def top_activations(maps: torch.Tensor, channel: int, k: int) -> list[tuple[int, int, int]]:
    """Finds the k images that activate a channel most: (image, row, column) of the maxima, strongest first."""
    values, positions = maps[:, channel].flatten(1).max(dim=1)  # each [batch]
    best = values.topk(k).indices
    return [(int(image), *divmod(int(positions[image]), maps.size(3))) for image in best]


def color_correlation_sqrt(images: torch.Tensor) -> torch.Tensor:
    """Computes the matrix square root of the covariance of the images' channels, [channels, channels].

    It turns independent channels into ones that are correlated like those of real images, mostly as brightness.
    """
    pixels = images.transpose(0, 1).flatten(1)  # [channels, batch·height·width]
    variances, directions = torch.linalg.eigh(torch.cov(pixels))
    output: torch.Tensor = directions * variances.clamp(min=0).sqrt() @ directions.T
    return output


def image_from_spectrum(
    spectrum: torch.Tensor, size: int, decay_power: float, color_correlation: torch.Tensor
) -> torch.Tensor:
    """Computes images from their Fourier coefficients.

    Args:
        spectrum: [batch, channels, size, size // 2 + 1, 2], real and imaginary parts.
        size: height and width.
        decay_power: coefficients are divided by their frequency to this power; 1 is the spectrum of natural images, 0
            leaves them as they are.
        color_correlation: [channels, channels], applied to the channels before the sigmoid.

    Returns:
        [batch, channels, size, size], from 0 to 1.
    """
    vertical, horizontal = torch.fft.fftfreq(size, dtype=spectrum.dtype), torch.fft.rfftfreq(size, dtype=spectrum.dtype)
    # Cycles per pixel, [size, size // 2 + 1]; the mean, of frequency 0, is treated like the lowest other one.
    frequency = torch.hypot(vertical[:, None], horizontal).clamp(min=1 / size)
    scaled = torch.view_as_complex(spectrum) / (frequency * size) ** decay_power
    x = torch.fft.irfft2(scaled, s=(size, size), norm="ortho")  # [batch, channels, size, size]
    return torch.einsum("bchw,dc->bdhw", x, color_correlation).sigmoid()


def activation_maximization(
    objective: Callable[[torch.Tensor], torch.Tensor],
    size: int,
    color_correlation: torch.Tensor,
    num_images: int = 1,
    steps: int = 100,
    lr: float = 0.1,
    decay_power: float = 1.0,
    jitter: int = 0,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Finds images that maximize an objective, such as a unit's activation, by gradient ascent from noise.

    Ascent on pixels finds noise that happens to activate the unit. Fourier coefficients with decay, correlated colors
    and a small random shift at each step keep the images natural (Olah et al. 2017,
    https://distill.pub/2017/feature-visualization).

    Args:
        objective: maps images to [num_images], which are maximized.
        size: height and width.
        color_correlation: of `color_correlation_sqrt`; its size is the number of channels.
        num_images: number of starts.
        steps: of Adam.
        lr: of Adam.
        decay_power: as of `image_from_spectrum`.
        jitter: largest shift in pixels; what leaves the image on one side enters it on the other.
        generator: of the noise and the shifts.

    Returns:
        [num_images, channels, size, size], from 0 to 1.
    """
    shape = (num_images, len(color_correlation), size, size // 2 + 1, 2)
    spectrum = (0.1 * torch.randn(shape, generator=generator, dtype=color_correlation.dtype)).requires_grad_()
    optimizer = torch.optim.Adam([spectrum], lr=lr)
    for _ in range(steps):
        images = image_from_spectrum(spectrum, size, decay_power, color_correlation)
        down, across = torch.randint(-jitter, jitter + 1, (2,), generator=generator).tolist()
        (gradient,) = torch.autograd.grad(-objective(images.roll((down, across), dims=(2, 3))).sum(), spectrum)
        spectrum.grad = gradient
        optimizer.step()
    return image_from_spectrum(spectrum.detach(), size, decay_power, color_correlation)
