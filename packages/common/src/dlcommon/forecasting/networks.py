"""Networks that map a window of a series to quantiles of its next values.

Shapes: window [batch, context], in units and relative to its last value (see `neural.py`), to quantiles
[batch, horizon, levels]. Each starts as a forecast that does not depend on the window: the last layer's weights are
zero, so that what it learns is a departure from "tomorrow is as today".
"""

import torch
from torch import nn
from torch.nn import functional as F

from dlcommon.rnn.recurrent import RNNBase


class QuantileHead(nn.Linear):
    """From features [batch, width] to quantiles [batch, horizon, levels], at first the same for all."""

    def __init__(self, width: int, start: torch.Tensor) -> None:
        super().__init__(width, start.numel())
        self.shape = start.shape
        with torch.no_grad():
            self.weight.zero_()
            self.bias.copy_(start.flatten())

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return super().forward(features).unflatten(1, self.shape)


def channels(window: torch.Tensor) -> torch.Tensor:
    """Value and change of each step: [batch, context] to [batch, context, 2]."""
    changes = F.pad(window.diff(dim=1), (1, 0))
    return torch.stack([window, changes], dim=2)


class RecurrentNetwork(nn.Module):
    """An LSTM or a GRU; its last state says what comes next.

    Args:
        recurrent: reads two features a step.
        start: quantiles [horizon, levels] to begin with.
    """

    def __init__(self, recurrent: RNNBase, start: torch.Tensor) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.head = QuantileHead(recurrent.hidden_size, start)

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        outputs, _ = self.recurrent(channels(window))
        return self.head(outputs[:, -1])


class CausalBlock(nn.Module):
    """x + two dilated convolutions that see the past only (Bai et al. 2018, https://arxiv.org/abs/1803.01271).

    This is figure 1 without the paper's weight normalisation and dropout: these networks are small and stopped early.
    """

    def __init__(self, inputs: int, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.past = (kernel - 1) * dilation
        self.first = nn.Conv1d(inputs, width, kernel, dilation=dilation)
        self.second = nn.Conv1d(width, width, kernel, dilation=dilation)
        self.shortcut = nn.Conv1d(inputs, width, 1) if inputs != width else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, channels, time], the same time."""
        y = F.relu(self.first(F.pad(x, (self.past, 0))))
        y = F.relu(self.second(F.pad(y, (self.past, 0))))
        return F.relu(y + self.shortcut(x))


class TCN(nn.Module):
    """Temporal convolutional network: blocks with dilations 1, 2, 4, …

    The last output sees 1 + 2 (kernel − 1) (2^blocks − 1) steps, 29 by default.
    """

    def __init__(self, start: torch.Tensor, width: int = 16, kernel: int = 3, blocks: int = 3) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(CausalBlock(width if block else 2, width, kernel, 2**block) for block in range(blocks))
        )
        self.head = QuantileHead(width, start)

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(channels(window).transpose(1, 2))[:, :, -1])


class DLinear(nn.Module):
    """A linear map of the moving average plus one of the rest (Zeng et al. 2023, https://arxiv.org/abs/2205.13504).

    Args:
        context: values in a window.
        start: quantiles [horizon, levels] to begin with.
        kernel: values in the moving average, odd; the window's ends are repeated beyond it.
    """

    def __init__(self, context: int, start: torch.Tensor, kernel: int = 25) -> None:
        super().__init__()
        self.kernel = kernel
        self.trend = QuantileHead(context, start)
        self.rest = QuantileHead(context, torch.zeros_like(start))

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        side = self.kernel // 2
        padded = F.pad(window[:, None], (side, side), mode="replicate")
        trend = F.avg_pool1d(padded, self.kernel, stride=1).squeeze(1)
        return self.trend(trend) + self.rest(window - trend)
