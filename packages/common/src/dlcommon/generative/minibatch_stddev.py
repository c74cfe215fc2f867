"""Minibatch standard deviation: lets a discriminator see how varied a batch is (Karras et al. 2018, section 3)."""

import torch
from torch import nn


class MinibatchStddev(nn.Module):
    """Appends a channel with the mean standard deviation over a group of samples (https://arxiv.org/abs/1710.10196).

    A generator that has collapsed to a few pictures gives groups of small deviation, which the discriminator can now
    tell from real ones. As in the authors' code for StyleGAN2: deviations over groups of samples, not the whole batch;
    batch of B samples in groups of G means that sample i is grouped with i + B/G, i + 2B/G, ….

    Args:
        group_size: samples in a group, at least 2; the whole batch where it is smaller.
        num_channels: statistics appended; the input's channels are split into as many parts.

    Raises:
        ValueError: a number is too small.
    """

    def __init__(self, group_size: int = 4, num_channels: int = 1) -> None:
        super().__init__()
        if group_size < 2 or num_channels < 1:
            raise ValueError(f"need group_size ≥ 2 and num_channels ≥ 1, not {group_size} and {num_channels}")
        self.group_size, self.num_channels = group_size, num_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, channels, height, width] to [batch, channels + num_channels, height, width].

        Raises:
            ValueError: the batch cannot be split into groups, or the channels into parts.
        """
        batch, channels, height, width = x.shape
        group = min(self.group_size, batch)
        if batch % group or channels % self.num_channels:
            raise ValueError(
                f"{batch} samples and {channels} channels cannot be split into groups of {group} and "
                f"{self.num_channels} parts; drop the last, smaller batch"
            )
        grouped = x.reshape(group, -1, self.num_channels, channels // self.num_channels, height, width)
        variance = grouped.var(dim=0, unbiased=False)  # [groups, parts, channels / parts, height, width]
        statistics = (variance + 1e-8).sqrt().mean(dim=(2, 3, 4))  # [groups, parts]; 1e-8 keeps √ differentiable at 0
        feature = statistics.repeat(group, 1)[:, :, None, None].expand(-1, -1, height, width)
        return torch.cat((x, feature), dim=1)
