"""The U-Net of diffusion models (Ho et al. 2020, appendix B): pictures in, pictures out, told how noisy they are.

Equals `diffusers.UNet2DModel` with the same weights. Shapes: pictures [batch, channels, height, width].
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from dlcommon.generative.unet_blocks import (
    AttentionBlock,
    Downsample,
    ResidualBlock,
    TimestepEmbedSequential,
    Upsample,
    timestep_embedding,
    zero_initialize,
)


class UNet(nn.Module):
    """Maps noisy pictures, timesteps and labels to a prediction of the pictures' shape.

    On the way down, resolution halves from level to level, and every result is kept. On the way up each residual block
    gets one of them beside what came from below: the lower levels see the whole picture, the kept results bring back
    the detail.

    Args:
        in_channels: of the pictures.
        channels: of each level; the first is at full resolution, each further one at half of the one before.
        attention: whether a level has attention after each residual block; the middle always has it. By default, the
            last level only.
        blocks: residual blocks of each level on the way down; there is one more on the way up.
        num_classes: number of labels; `None` for none. Where guidance needs a label for "none", count it.
        out_channels: of the prediction; by default those of the pictures. Twice as many for a learned variance.
        groups: of the group normalizations; each of `channels` is a multiple.
        head_dim: width of an attention head; channels with attention are a multiple.
        dropout: probability of zeroing a feature within residual blocks.

    Raises:
        ValueError: `attention` has another length than `channels`, or channels are no multiple of `groups`.
    """

    def __init__(
        self,
        in_channels: int = 3,
        *,
        channels: Sequence[int] = (64, 128, 128),
        attention: Sequence[bool] | None = None,
        blocks: int = 2,
        num_classes: int | None = None,
        out_channels: int | None = None,
        groups: int = 8,
        head_dim: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        levels = len(channels)
        attention = [level == levels - 1 for level in range(levels)] if attention is None else attention
        if len(attention) != levels:
            raise ValueError(f"attention has {len(attention)} levels, channels has {levels}")
        if any(width % groups for width in channels):
            raise ValueError(f"channels {tuple(channels)} must be multiples of groups {groups}")
        self.channels, embedding_dim = tuple(channels), 4 * channels[0]
        self.time_mlp = nn.Sequential(
            nn.Linear(channels[0], embedding_dim), nn.SiLU(), nn.Linear(embedding_dim, embedding_dim)
        )
        self.class_embedding = None if num_classes is None else nn.Embedding(num_classes, embedding_dim)

        def stage(width_in: int, width_out: int, attend: bool) -> TimestepEmbedSequential:
            stage = TimestepEmbedSequential(
                [ResidualBlock(width_in, width_out, embedding_dim, groups=groups, dropout=dropout)]
            )
            if attend:
                stage.append(AttentionBlock(width_out, groups=groups, head_dim=head_dim))
            return stage

        self.conv_in = nn.Conv2d(in_channels, channels[0], 3, padding=1)
        self.down = nn.ModuleList()
        kept = [width := channels[0]]  # channels of all results that are kept
        for level in range(levels):
            for _ in range(blocks):
                self.down.append(stage(width, channels[level], attention[level]))
                kept.append(width := channels[level])
            if level < levels - 1:
                self.down.append(TimestepEmbedSequential([Downsample(width)]))
                kept.append(width)
        self.middle = stage(width, width, True)
        self.middle.append(ResidualBlock(width, width, embedding_dim, groups=groups, dropout=dropout))
        stages: list[TimestepEmbedSequential] = []
        for level in reversed(range(levels)):
            for _ in range(blocks + 1):
                stages.append(stage(width + kept.pop(), channels[level], attention[level]))
                width = channels[level]
            if level:
                stages[-1].append(Upsample(width))
        self.up = nn.ModuleList(stages)
        self.norm_out = nn.GroupNorm(groups, width)
        self.conv_out = nn.Conv2d(width, in_channels if out_channels is None else out_channels, 3, padding=1)
        zero_initialize(self.conv_out)  # an untrained network predicts 0, the mean of noise

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Predicts from noisy pictures.

        Args:
            x: [batch, in_channels, height, width]; sides are multiples of 2^(levels − 1).
            timesteps: integer or float, [batch].
            labels: int64 [batch]; for a network with classes.

        Returns:
            [batch, out_channels, height, width].

        Raises:
            ValueError: the sides cannot be halved that often, or labels are missing or not expected.
        """
        shrink = 2 ** (len(self.channels) - 1)
        if x.size(2) % shrink or x.size(3) % shrink:
            raise ValueError(
                f"{x.size(2)} × {x.size(3)} pixels cannot be halved {len(self.channels) - 1} times; "
                f"sides must be multiples of {shrink}"
            )
        if (labels is None) != (self.class_embedding is None):
            raise ValueError("pass labels to a network with num_classes, and to no other")
        embedding = self.time_mlp(timestep_embedding(timesteps, self.channels[0]).to(x.dtype))  # [batch, embedding]
        if self.class_embedding is not None:
            embedding = embedding + self.class_embedding(labels)

        x = self.conv_in(x)
        kept = [x]
        for down in self.down:
            x = down(x, embedding)
            kept.append(x)
        x = self.middle(x, embedding)
        for up in self.up:
            x = up(torch.cat((x, kept.pop()), dim=1), embedding)
        prediction: torch.Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return prediction
