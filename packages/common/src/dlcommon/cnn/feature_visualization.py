"""Looking into a convolutional network: what its layers answer, where most strongly, and what they would like to see.

Shapes: images [batch, channels, height, width] from 0 to 1, maps [batch, channels, rows, columns].
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def recorded(network: nn.Module, *names: str) -> Iterator[dict[str, torch.Tensor]]:
    """Inside the block, each call of the network leaves the outputs of the named submodules in the dictionary.

    They are the tensors themselves, so that gradients flow to them and through them.

    Raises:
        ValueError: there is no submodule of that name; says which there are.
    """
    modules = dict(network.named_modules())
    if missing := [name for name in names if name not in modules]:
        raise ValueError(f"no layer {missing[0]!r}; there are {', '.join(filter(None, modules))}")
    outputs: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, object, torch.Tensor], None]:
        return lambda module, inputs, output: outputs.update({name: output})

    handles = [modules[name].register_forward_hook(keep(name)) for name in names]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def strongest_places(maps: torch.Tensor, channel: int, count: int) -> list[tuple[int, int, int]]:
    """(image, row, column) where the channel answers most strongly, strongest first, one for each image."""
    values, places = maps[:, channel].flatten(1).max(dim=1)
    best = values.topk(count).indices
    return [(int(image), *divmod(int(places[image]), maps.size(3))) for image in best]


def colour_mixing(images: torch.Tensor) -> torch.Tensor:
    """The square root of the covariance of the images' channels [channels, channels].

    It turns independent channels into ones that go together as those of real images do, mostly as brightness.
    """
    pixels = images.transpose(0, 1).flatten(1)
    variances, directions = torch.linalg.eigh(torch.cov(pixels))
    return directions * variances.clamp(min=0).sqrt() @ directions.T


def image_from_spectrum(spectrum: torch.Tensor, side: int, decay: float, mixing: torch.Tensor) -> torch.Tensor:
    """Images from their Fourier coefficients.

    Args:
        spectrum: [batch, channels, side, side // 2 + 1, 2], real and imaginary parts.
        side: height and width.
        decay: coefficients are divided by their frequency to this power; 1 is the spectrum of natural images, 0
            leaves them as they are.
        mixing: [channels, channels], applied to the channels before the sigmoid.
    """
    along = torch.fft.fftfreq(side, dtype=spectrum.dtype), torch.fft.rfftfreq(side, dtype=spectrum.dtype)
    frequency = torch.hypot(along[0][:, None], along[1]).clamp(min=1 / side)  # cycles a pixel
    scaled = torch.view_as_complex(spectrum) / (frequency * side) ** decay
    x = torch.fft.irfft2(scaled, s=(side, side), norm="ortho")
    return torch.einsum("bchw,dc->bdhw", x, mixing).sigmoid()


def activation_maximization(
    score: Callable[[torch.Tensor], torch.Tensor],
    side: int,
    mixing: torch.Tensor,
    count: int = 1,
    steps: int = 100,
    learning_rate: float = 0.1,
    decay: float = 1.0,
    jitter: int = 0,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Images [count, channels, side, side] that a unit answers to most strongly, by gradient ascent from noise.

    Ascent on pixels finds noise that the unit happens to like. Fourier coefficients with decay, mixed colours and a
    small random shift at each step keep the images natural (Olah et al. 2017,
    https://distill.pub/2017/feature-visualization).

    Args:
        score: images to [count], one number each, which is made large.
        mixing: of `colour_mixing`; its size says how many channels there are.
        jitter: pixels that the image is shifted by at most, around its edges.
        generator: of the noise and the shifts.
    """
    shape = (count, len(mixing), side, side // 2 + 1, 2)
    spectrum = (0.1 * torch.randn(shape, generator=generator, dtype=mixing.dtype)).requires_grad_()
    optimizer = torch.optim.Adam([spectrum], lr=learning_rate)
    for _ in range(steps):
        images = image_from_spectrum(spectrum, side, decay, mixing)
        down, across = torch.randint(-jitter, jitter + 1, (2,), generator=generator).tolist()
        (gradient,) = torch.autograd.grad(-score(images.roll((down, across), dims=(2, 3))).sum(), spectrum)
        spectrum.grad = gradient
        optimizer.step()
    return image_from_spectrum(spectrum.detach(), side, decay, mixing)
