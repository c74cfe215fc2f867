"""Building blocks of the U-Net of diffusion models (Ho et al. 2020, appendix B).

Shapes: features [batch, channels, height, width]; embeddings of timestep and label [batch, embedding].
"""

import torch
from torch import nn
from torch.nn import functional as F

from dlcommon.transformer.attention import MultiHeadAttention
from dlcommon.transformer.rotary_embedding import rotary_cos_sin


def timestep_embedding(timesteps: torch.Tensor, dim: int) -> torch.Tensor:
    """Embeds timesteps [batch] as cosines and sines of dim / 2 frequencies: float32 [batch, dim].

    These are the frequencies of a Transformer's positions. Timesteps may be fractions.
    """
    return torch.cat(rotary_cos_sin(timesteps, dim), dim=-1)


def zero_initialize(module: nn.Module) -> None:
    """Sets all parameters to zero, so that the module's output is zero until it has learned."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)


class ResidualBlock(nn.Module):
    """Computes x + conv(silu(norm(conv(silu(norm(x))) + W silu(embedding)))).

    The embedding is added to all pixels alike. Where the number of channels changes, x goes through a convolution of
    one pixel. The second convolution starts at zero, so that an untrained block passes x on. Equals
    `diffusers.models.resnet.ResnetBlock2D`.

    Args:
        in_channels: a multiple of `groups`.
        out_channels: a multiple of `groups`.
        embedding_dim: width of the embedding.
        groups: of the group normalizations.
        dropout: probability of zeroing a feature before the second convolution.
    """

    def __init__(
        self, in_channels: int, out_channels: int, embedding_dim: int, *, groups: int = 8, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.embedding_proj = nn.Linear(embedding_dim, out_channels)
        self.norm2 = nn.GroupNorm(groups, out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        zero_initialize(self.conv2)
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Maps [batch, in_channels, height, width] to [batch, out_channels, height, width]."""
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = hidden + self.embedding_proj(F.silu(embedding))[:, :, None, None]
        hidden = self.conv2(self.dropout(F.silu(self.norm2(hidden))))
        result: torch.Tensor = self.shortcut(x) + hidden
        return result


class AttentionBlock(nn.Module):
    """Lets every pixel attend to all pixels: x + attention(norm(x)).

    Equals `diffusers.models.attention_processor.Attention` with a residual connection.

    Args:
        channels: a multiple of `groups` and of `head_dim`.
        groups: of the group normalization.
        head_dim: width of an attention head.

    Raises:
        ValueError: `channels` is no multiple of `head_dim`.
    """

    def __init__(self, channels: int, *, groups: int = 8, head_dim: int = 8) -> None:
        super().__init__()
        if channels % head_dim:
            raise ValueError(f"channels {channels} must be a multiple of head_dim {head_dim}")
        self.norm = nn.GroupNorm(groups, channels)
        self.attention = MultiHeadAttention(channels, channels // head_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, channels, height, width] to the same shape."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # [batch, height · width, channels]
        found: torch.Tensor = self.attention(tokens)[0]
        return x + found.transpose(1, 2).view_as(x)


class Downsample(nn.Module):
    """Halves height and width by a convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, channels, height, width] to [batch, channels, height / 2, width / 2]."""
        halved: torch.Tensor = self.conv(x)
        return halved


class Upsample(nn.Module):
    """Doubles height and width by repeating each pixel, then smooths with a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, channels, height, width] to [batch, channels, 2 · height, 2 · width]."""
        doubled: torch.Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return doubled


class TimestepEmbedSequential(nn.ModuleList):
    """Applies modules one after the other; residual blocks get the embedding as well."""

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Maps features, and the embedding [batch, embedding], to features."""
        for module in self:
            x = module(x, embedding) if isinstance(module, ResidualBlock) else module(x)
        return x
