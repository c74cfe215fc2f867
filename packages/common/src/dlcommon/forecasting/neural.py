"""Neural forecasters: scaled windows, quantile loss, early stopping on the latest part of the past."""

from collections.abc import Callable, Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import nn

from dlcommon.forecasting.networks import TCN, DLinear, RecurrentNetwork
from dlcommon.forecasting.scores import LEVELS
from dlcommon.forecasting.windows import sliding_windows, split_by_time
from dlcommon.rnn.recurrent import GRU, LSTM

Build = Callable[[int, torch.Tensor], nn.Module]
"""Builds a network from the context length and the initial quantiles [horizon, levels]."""

NETWORKS: dict[str, Build] = {
    "DLinear": DLinear,
    "LSTM": lambda _, initial: RecurrentNetwork(LSTM(2, 16, forget_bias=1.0), initial),
    "GRU": lambda _, initial: RecurrentNetwork(GRU(2, 16), initial),
    "TCN": lambda _, initial: TCN(initial),
}


def quantile_loss(quantiles: torch.Tensor, actual: torch.Tensor) -> torch.Tensor:
    """Computes the mean pinball loss of quantiles [batch, horizon, levels] for actual values [batch, horizon]."""
    levels = torch.as_tensor(LEVELS, dtype=quantiles.dtype)
    shortfall = actual[..., None] - quantiles
    return torch.maximum(levels * shortfall, (levels - 1) * shortfall).mean()


class NeuralForecaster:
    """Trains a network on every window of the past.

    A window is taken relative to its last value and in units of its own typical step (the root mean square of its
    changes), so that the network need not learn level and volatility, and nothing is scaled by later values. The
    network that is best on the latest tenth of the past is kept; the initial one, which forecasts "as today" with the
    quantiles of the past, is a candidate too.

    Args:
        name: one of `NETWORKS`.
        context_length: values in a window.
        epochs: largest number of passes over the windows.
        patience: epochs without improvement on the validation part after which training stops.
        batch_size: windows for one step.
        lr: initial learning rate of AdamW, which falls to a twentieth.
        seed: of initialization and order.
    """

    def __init__(
        self,
        name: str,
        context_length: int = 32,
        epochs: int = 8,
        patience: int = 2,
        batch_size: int = 128,
        lr: float = 3e-3,
        seed: int = 0,
    ) -> None:
        self.name, self.context_length, self.epochs, self.patience = name, context_length, epochs, patience
        self.batch_size, self.lr, self.seed = batch_size, lr, seed

    def fit(self, history: np.ndarray, horizon: int) -> None:
        """Trains a new network on the windows of the history."""
        self.smallest_unit = 0.1 * np.sqrt(np.mean(np.diff(history) ** 2)) + 1e-12  # for constant windows
        windows, targets = sliding_windows(history, self.context_length, horizon)
        last, unit = self._last_and_unit(windows)
        x, y = _tensor((windows - last) / unit), _tensor((targets - last) / unit)
        training, validation = split_by_time(len(x), validation_fraction=0.1, horizon=horizon)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            initial = torch.quantile(y[training], torch.as_tensor(LEVELS, dtype=y.dtype), dim=0).T  # [horizon, levels]
            self.network = NETWORKS[self.name](self.context_length, initial)
            self._train(x[training], y[training], x[validation], y[validation])

    def _train(self, x: torch.Tensor, y: torch.Tensor, later_x: torch.Tensor, later_y: torch.Tensor) -> None:
        """Trains on x and y, and keeps the weights that are best on the later part."""

        def validate() -> float:
            with torch.no_grad():
                return quantile_loss(self.network(later_x), later_y).item()

        best, kept, since = validate(), deepcopy(self.network.state_dict()), 0
        # −(−a // b) rounds up: the last batch of an epoch may be short.
        steps = self.epochs * -(-len(x) // self.batch_size)
        optimizer = torch.optim.AdamW(self.network.parameters(), self.lr, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
        for _ in range(self.epochs):
            for rows in torch.randperm(len(x)).split(self.batch_size):
                optimizer.zero_grad()
                quantile_loss(self.network(x[rows]), y[rows]).backward()
                optimizer.step()
                schedule.step()
            since += 1
            if (loss := validate()) < best:
                best, kept, since = loss, deepcopy(self.network.state_dict()), 0
            if since >= self.patience:
                break
        self.network.load_state_dict(kept)

    @torch.no_grad()
    def predict(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Computes quantiles [histories, horizon, levels]."""
        windows = np.stack([history[-self.context_length :] for history in histories])
        last, unit = self._last_and_unit(windows)
        quantiles = self.network(_tensor((windows - last) / unit)).double().numpy()
        quantiles.sort(axis=2)  # quantiles are learned independently and may cross
        result: np.ndarray = last[..., None] + unit[..., None] * quantiles
        return result

    def _last_and_unit(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the last value and the typical step of each window, both [n, 1]."""
        unit = np.sqrt(np.mean(np.diff(windows, axis=1) ** 2, axis=1, keepdims=True))
        return windows[:, -1:], np.maximum(unit, self.smallest_unit)


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)
