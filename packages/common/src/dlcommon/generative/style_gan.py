"""A small StyleGAN2 (Karras et al. 2020, https://arxiv.org/abs/1912.04958) for few pixels and little time.

Noise is mapped to a style, which scales the channels before every convolution of the generator. Unlike in the paper,
both networks have residual blocks, the generator gets no noise beside the style, and its last and the discriminator's
first layer fold two by two pixels into channels, so that nothing is computed at the full size.

Shapes: noise and styles [batch, dim], or one for each block, [batch, blocks, dim]; images [batch, 3, size, size], about
from −1 to 1.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from dlcommon.generative.minibatch_stddev import MinibatchStddev

SLOPE = 0.2
"""Of leaky ReLU for negative inputs."""
GAIN = math.sqrt(2)
"""Restores the variance that leaky ReLU halves."""


def activated(x: torch.Tensor) -> torch.Tensor:
    """Applies leaky ReLU and keeps the variance about 1."""
    return F.leaky_relu(x, SLOPE) * GAIN


def channels_at(width: int, largest: int, size: int) -> int:
    """Returns the channels at a resolution: `width` at 32 pixels, twice as many at 16, …, at most `largest`."""
    return min(largest, width * 32 // size)


class MappingNetwork(nn.Module):
    """Maps noise to styles with a perceptron (section 2); noise is first put on the sphere of radius √dim."""

    def __init__(self, noise_dim: int, style_dim: int, layers: int = 2) -> None:
        super().__init__()
        sizes = [noise_dim, *[style_dim] * layers]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.in_features))
            nn.init.zeros_(layer.bias)

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        """Maps [..., noise_dim] to [..., style_dim]."""
        x = noise * (noise.square().mean(dim=-1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.layers:
            x = activated(layer(x))
        return x


class ModulatedConv(nn.Module):
    """Convolves with a kernel whose input channels a style scales, and whose output it normalizes (equations 1 and 3).

    The paper scales and normalizes the kernel, differently for each picture. Scaling the input and the output instead
    is the same, and one convolution serves the whole batch.
    """

    def __init__(self, in_channels: int, out_channels: int, style_dim: int, kernel_size: int = 3) -> None:
        super().__init__()
        fan_in = in_channels * kernel_size**2
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size) / math.sqrt(fan_in))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.affine = nn.Linear(style_dim, in_channels)
        nn.init.normal_(self.affine.weight, std=1 / math.sqrt(style_dim))
        nn.init.ones_(self.affine.bias)
        self.padding = kernel_size // 2

    def forward(self, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        """Maps [batch, in_channels, height, width] and styles [batch, style_dim] to [batch, out_channels, …]."""
        scale = self.affine(style)  # [batch, in_channels]
        energy = self.weight.square().sum(dim=(2, 3))  # [out_channels, in_channels]
        norm = (scale.float().square() @ energy.T.float() + 1e-8).rsqrt().to(scale.dtype)  # [batch, out_channels]
        y = F.conv2d(x * scale[:, :, None, None].to(x.dtype), self.weight, padding=self.padding)
        return torch.addcmul(self.bias[:, None, None].to(y.dtype), y, norm[:, :, None, None].to(y.dtype))


class SynthesisBlock(nn.Module):
    """Doubles the size (unless it is the first), and adds what two modulated convolutions make."""

    def __init__(self, in_channels: int, out_channels: int, style_dim: int, upsample: bool) -> None:
        super().__init__()
        self.upsample = upsample
        self.skip = nn.Conv2d(in_channels, out_channels, 1, bias=False) if in_channels != out_channels else None
        self.conv1 = ModulatedConv(out_channels, out_channels, style_dim)
        self.conv2 = ModulatedConv(out_channels, out_channels, style_dim)
        if self.skip is not None:
            nn.init.normal_(self.skip.weight, std=1 / math.sqrt(in_channels))

    def forward(self, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        """Maps [batch, in_channels, size, size] to [batch, out_channels, 2 size, 2 size]."""
        if self.skip is not None:
            x = self.skip(x)  # before the size grows: a quarter of the work
        if self.upsample:
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        branch = activated(self.conv2(activated(self.conv1(x, style)), style))
        return (x + branch) * (1 / GAIN)


class StyleGenerator(nn.Module):
    """Turns noise into images.

    Args:
        width: channels at half of the images' size.
        largest: channels at most.
        noise_dim: of the noise.
        style_dim: of the styles.
        size: of the images in pixels, a power of two of at least 16.
    """

    def __init__(
        self, width: int = 48, largest: int = 192, noise_dim: int = 128, style_dim: int = 128, size: int = 64
    ) -> None:
        super().__init__()
        sizes = [4 * 2**n for n in range(int(math.log2(size)) - 2)]  # 4, 8, …, size / 2
        channels = [channels_at(width * size // 64, largest, each) for each in sizes]
        self.noise_dim, self.style_dim, self.num_blocks = noise_dim, style_dim, len(sizes)
        self.mapping = MappingNetwork(noise_dim, style_dim)
        self.constant = nn.Parameter(torch.randn(1, channels[0], 4, 4))
        self.blocks = nn.ModuleList(
            SynthesisBlock(a, b, style_dim, upsample=number > 0)
            for number, (a, b) in enumerate(zip([channels[0], *channels[:-1]], channels, strict=True))
        )
        self.to_pixels = nn.Conv2d(channels[-1], 12, 3, padding=1)
        # The four pixels that one place becomes start alike, so that there is no checkerboard to unlearn (Aitken et al.
        # 2017, https://arxiv.org/abs/1707.02937).
        kernels = torch.randn(3, channels[-1], 3, 3) * (0.5 / math.sqrt(9 * channels[-1]))
        self.to_pixels.weight.data.copy_(kernels.repeat_interleave(4, dim=0))
        if self.to_pixels.bias is not None:
            nn.init.zeros_(self.to_pixels.bias)

    def synthesize(self, styles: torch.Tensor) -> torch.Tensor:
        """Maps a style for each block, [batch, blocks, style_dim], to images."""
        x = self.constant.expand(styles.size(0), -1, -1, -1)  # not `len`, which an exporter makes a constant
        x = x.to(memory_format=torch.channels_last)
        for block, style in zip(self.blocks, styles.unbind(dim=1), strict=True):
            x = block(x, style)
        return F.pixel_shuffle(self.to_pixels(activated(x)), 2)

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        """Maps noise [batch, noise_dim], or another for each block [batch, blocks, noise_dim], to images."""
        styles = self.mapping(noise)
        if styles.dim() == 2:
            styles = styles[:, None].expand(-1, self.num_blocks, -1)
        return self.synthesize(styles)


class DiscriminatorBlock(nn.Module):
    """Halves the size with two convolutions, beside a shortcut of averages (figure 7, at the bottom)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1)
        self.skip = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, in_channels, size, size] to [batch, out_channels, size / 2, size / 2]."""
        branch = activated(self.conv2(activated(self.conv1(x))))
        output: torch.Tensor = (self.skip(F.avg_pool2d(x, 2)) + branch) * (1 / GAIN)
        return output


class ResidualDiscriminator(nn.Module):
    """Scores images: the higher, the more they look real.

    Args:
        width: channels at half of the images' size.
        largest: channels at most.
        size: of the images in pixels, a power of two of at least 16.
    """

    def __init__(self, width: int = 32, largest: int = 256, size: int = 64) -> None:
        super().__init__()
        sizes: Sequence[int] = [size // 2 // 2**n for n in range(int(math.log2(size)) - 2)]  # size / 2, …, 4
        channels = [channels_at(width * size // 64, largest, each) for each in sizes]
        last = channels[-1]
        self.from_pixels = nn.Conv2d(12, channels[0], 3, padding=1)
        self.blocks = nn.Sequential(*(DiscriminatorBlock(a, b) for a, b in pairwise(channels)))
        self.stddev = MinibatchStddev()
        self.conv = nn.Conv2d(last + 1, last, 3, padding=1)
        self.hidden, self.score = nn.Linear(16 * last, last), nn.Linear(last, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, std=1 / math.sqrt(module.weight[0].numel()))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps images to scores [batch]."""
        x = activated(self.from_pixels(F.pixel_unshuffle(images, 2)))
        x = self.stddev(self.blocks(x))
        x = activated(self.conv(x)).flatten(1)
        scores: torch.Tensor = self.score(activated(self.hidden(x))).squeeze(1)
        return scores
