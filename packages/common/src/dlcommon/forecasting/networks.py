"""Networks that map a window of a series to quantiles of the next values.

Shapes: window [batch, context_length], in units and relative to its last value (see `neural.py`), to quantiles
[batch, horizon, levels]. Each starts as a forecast that does not depend on the window: the last layer's weights are
zero, so that training learns the departure from "tomorrow is as today".
"""

import torch
from torch import nn
from torch.nn import functional as F

from dlcommon.rnn.recurrent import RNNBase


class QuantileHead(nn.Linear):
    """Maps features [batch, in_features] to quantiles [batch, horizon, levels], initially the same for all.

    Args:
        in_features: of the input.
        initial_quantiles: [horizon, levels], the output before training.
    """

    def __init__(self, in_features: int, initial_quantiles: torch.Tensor) -> None:
        super().__init__(in_features, initial_quantiles.numel())
        self.shape = initial_quantiles.shape
        with torch.no_grad():
            self.weight.zero_()
            self.bias.copy_(initial_quantiles.flatten())

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Maps [batch, in_features] to [batch, horizon, levels]."""
        return super().forward(features).reshape(-1, *self.shape)


def value_and_change(window: torch.Tensor) -> torch.Tensor:
    """Stacks value and change of each step: [batch, context_length] to [batch, context_length, 2]."""
    changes = F.pad(window.diff(dim=1), (1, 0))
    return torch.stack([window, changes], dim=2)


class RecurrentNetwork(nn.Module):
    """Forecasts from the last hidden state of an LSTM or a GRU.

    Args:
        recurrent: with an input size of 2.
        initial_quantiles: [horizon, levels].
    """

    def __init__(self, recurrent: RNNBase, initial_quantiles: torch.Tensor) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.head = QuantileHead(recurrent.hidden_size, initial_quantiles)

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        """Maps [batch, context_length] to [batch, horizon, levels]."""
        outputs, _ = self.recurrent(value_and_change(window))
        output: torch.Tensor = self.head(outputs[:, -1])
        return output


class CausalBlock(nn.Module):
    """Computes x + two dilated causal convolutions of x (Bai et al. 2018, https://arxiv.org/abs/1803.01271).

    This is figure 1 without the paper's weight normalization and dropout: these networks are small and stopped early.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, dilation: int) -> None:
        super().__init__()
        self.padding = (kernel_size - 1) * dilation
        self.first = nn.Conv1d(in_channels, out_channels, kernel_size, dilation=dilation)
        self.second = nn.Conv1d(out_channels, out_channels, kernel_size, dilation=dilation)
        self.shortcut = nn.Conv1d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, in_channels, time] to [batch, out_channels, time]."""
        # Padding on the left only: no output sees a later input.
        y = F.relu(self.first(F.pad(x, (self.padding, 0))))
        y = F.relu(self.second(F.pad(y, (self.padding, 0))))
        return F.relu(y + self.shortcut(x))


class TCN(nn.Module):
    """Implements a temporal convolutional network, with dilations 1, 2, 4, …

    The last output sees 1 + 2 (kernel_size − 1) (2^num_blocks − 1) steps, 29 by default.
    """

    def __init__(
        self, initial_quantiles: torch.Tensor, num_channels: int = 16, kernel_size: int = 3, num_blocks: int = 3
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                CausalBlock(num_channels if block else 2, num_channels, kernel_size, 2**block)
                for block in range(num_blocks)
            )
        )
        self.head = QuantileHead(num_channels, initial_quantiles)

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        """Maps [batch, context_length] to [batch, horizon, levels]."""
        # Convolutions take [batch, channels, time]; the last step has seen the whole window.
        output: torch.Tensor = self.head(self.blocks(value_and_change(window).transpose(1, 2))[:, :, -1])
        return output


class DLinear(nn.Module):
    """Adds a linear map of the moving average and one of the remainder (Zeng et al. 2023, https://arxiv.org/abs/2205.13504).

    Args:
        context_length: values in a window.
        initial_quantiles: [horizon, levels].
        kernel_size: values in the moving average, odd; the window is padded by repeating its ends.
    """

    def __init__(self, context_length: int, initial_quantiles: torch.Tensor, kernel_size: int = 25) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.trend = QuantileHead(context_length, initial_quantiles)
        self.remainder = QuantileHead(context_length, torch.zeros_like(initial_quantiles))

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        """Maps [batch, context_length] to [batch, horizon, levels]."""
        side = self.kernel_size // 2
        padded = F.pad(window[:, None], (side, side), mode="replicate")
        trend = F.avg_pool1d(padded, self.kernel_size, stride=1).squeeze(1)
        output: torch.Tensor = self.trend(trend) + self.remainder(window - trend)
        return output
