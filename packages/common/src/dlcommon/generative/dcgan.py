"""DCGAN: an image generator of transposed convolutions and its mirror, a discriminator of strided ones.

Radford et al. 2016, https://arxiv.org/abs/1511.06434, section 3: strides instead of pooling, batch norm everywhere but
at the images, ReLU in the generator and leaky ReLU in the discriminator, tanh at the output, no fully connected hidden
layers. As in PyTorch's example, kernels are 4×4 (the paper's figure shows 5×5), so that stride 2 divides them evenly.
Shapes: images [batch, channels, size, size], from −1 to 1.
"""

import torch
from torch import nn
from torch.nn import functional as F

from dlcommon.generative.minibatch_stddev import MinibatchStddev
from dlcommon.generative.spectral_norm import spectral_norm

SIZES = (8, 16, 32, 64)


def stage_widths(image_size: int, width: int) -> list[int]:
    """Lists the channels of the hidden stages from the images to the 4×4 maps: width, 2 · width, 4 · width, ….

    Raises:
        ValueError: the size is not 8, 16, 32 or 64, or `width` is not positive.
    """
    if image_size not in SIZES:
        raise ValueError(f"image_size must be one of {', '.join(map(str, SIZES))}, not {image_size}")
    if width < 1:
        raise ValueError(f"width must be positive, not {width}")
    return [width * 2**stage for stage in range(SIZES.index(image_size) + 1)]


@torch.no_grad()
def initialize(network: nn.Module) -> None:
    """Draws weights of convolutions from N(0, 0.02²) and scales of batch norm from N(1, 0.02²); sets biases to 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)


class Generator(nn.Module):
    """Maps noise to images: a 4×4 map from the noise, then transposed convolutions that double the size.

    Args:
        image_size: 8, 16, 32 or 64.
        out_channels: of the images.
        latent_dim: length of the noise vector; 100 in the paper.
        width: channels at half the image size; each smaller map has twice as many. 128 in the paper.

    Raises:
        ValueError: the size is not supported.
    """

    def __init__(self, image_size: int = 64, out_channels: int = 3, latent_dim: int = 100, width: int = 64) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        widths = [latent_dim, *reversed(stage_widths(image_size, width)), out_channels]
        # The first grows 1×1 to 4×4, each other doubles the size: (size − 1) · 2 + 4 − 2 · 1 = 2 · size.
        self.convolutions = nn.ModuleList(
            nn.ConvTranspose2d(widths[i], widths[i + 1], 4, 2 if i else 1, 1 if i else 0, bias=i == len(widths) - 2)
            for i in range(len(widths) - 1)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for channels in widths[1:-1])
        initialize(self)

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        """Maps noise [batch, latent_dim] to images [batch, out_channels, size, size] between −1 and 1."""
        x = noise[:, :, None, None]  # [batch, latent_dim, 1, 1]
        for convolution, norm in zip(self.convolutions[:-1], self.norms, strict=True):
            x = F.relu(norm(convolution(x)))  # [batch, 8 · width, 4, 4], [batch, 4 · width, 8, 8], …
        return torch.tanh(self.convolutions[-1](x))


class Discriminator(nn.Module):
    """Maps images to logits: strided convolutions that halve the size down to 4×4, then one over the whole map.

    Args:
        image_size: 8, 16, 32 or 64.
        in_channels: of the images.
        width: channels at half the image size; each smaller map has twice as many. 128 in the paper's generator.
        batch_norm: whether hidden stages but the first have batch norm, as in the paper. A gradient penalty needs a
            network without.
        spectral: whether all convolutions have spectral norm.
        stddev_group: group size of a minibatch standard deviation before the last convolution; None for none.

    Raises:
        ValueError: the size is not supported.
    """

    def __init__(
        self,
        image_size: int = 64,
        in_channels: int = 3,
        width: int = 64,
        *,
        batch_norm: bool = True,
        spectral: bool = False,
        stddev_group: int | None = None,
    ) -> None:
        super().__init__()
        widths = [in_channels, *stage_widths(image_size, width)]
        # Where batch norm follows, a bias would be subtracted again.
        self.convolutions = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], 4, 2, 1, bias=i == 0 or not batch_norm) for i in range(len(widths) - 1)
        )
        normalized = widths[2:] if batch_norm else []
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for channels in normalized)
        self.stddev = None if stddev_group is None else MinibatchStddev(stddev_group)
        self.head = nn.Conv2d(widths[-1] + (self.stddev is not None), 1, 4)
        initialize(self)
        if spectral:
            for convolution in (*self.convolutions, self.head):
                spectral_norm(convolution)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Computes the last hidden maps, [batch, channels, 4, 4]."""
        x = images
        for stage, convolution in enumerate(self.convolutions):
            x = convolution(x)  # [batch, width, size / 2, size / 2], [batch, 2 · width, size / 4, size / 4], …
            if stage and self.norms:
                x = self.norms[stage - 1](x)
            x = F.leaky_relu(x, 0.2)
        return x

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Computes one logit for each image, [batch]."""
        x = self.features(images)
        if self.stddev is not None:
            x = self.stddev(x)
        logits: torch.Tensor = self.head(x).flatten()
        return logits
