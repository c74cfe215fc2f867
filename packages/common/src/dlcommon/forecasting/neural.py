"""A network as a forecaster: scaled windows, quantile loss, early stopping on the latest part of the past."""

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
"""(context, quantiles [horizon, levels] to begin with) to a network."""

NETWORKS: dict[str, Build] = {
    "DLinear": DLinear,
    "LSTM": lambda context, start: RecurrentNetwork(LSTM(2, 16, forget_bias=1.0), start),
    "GRU": lambda context, start: RecurrentNetwork(GRU(2, 16), start),
    "TCN": lambda context, start: TCN(start),
}


def quantile_loss(quantiles: torch.Tensor, actual: torch.Tensor) -> torch.Tensor:
    """Mean pinball loss of quantiles [batch, horizon, levels] for actual [batch, horizon]."""
    levels = torch.as_tensor(LEVELS, dtype=quantiles.dtype)
    shortfall = actual[..., None] - quantiles
    return torch.maximum(levels * shortfall, (levels - 1) * shortfall).mean()


class NeuralForecaster:
    """Trains a network on every window of the past.

    A window is seen relative to its last value and in units of its own typical step (the root mean square of its
    changes), so that neither level nor calm or rough times are for the network to learn, and nothing is scaled by
    what came later. The network that was best on the latest tenth of the past is kept; the one before the first
    epoch, which forecasts "as today" with the quantiles of the past, is among those to choose from.

    Args:
        name: one of `NETWORKS`.
        context: values in a window.
        epochs: at most.
        patience: stop after that many epochs without a better validation.
    """

    def __init__(
        self,
        name: str,
        context: int = 32,
        epochs: int = 8,
        patience: int = 2,
        batch: int = 128,
        learning_rate: float = 3e-3,
        seed: int = 0,
    ) -> None:
        self.name, self.context, self.epochs, self.patience = name, context, epochs, patience
        self.batch, self.learning_rate, self.seed = batch, learning_rate, seed

    def fit(self, history: np.ndarray, horizon: int) -> None:
        self.smallest_unit = 0.1 * np.sqrt(np.mean(np.diff(history) ** 2)) + 1e-12  # for windows that stand still
        windows, targets = sliding_windows(history, self.context, horizon)
        last, unit = self._last_and_unit(windows)
        x, y = _tensor((windows - last) / unit), _tensor((targets - last) / unit)
        training, validation = split_by_time(len(x), share=0.1, horizon=horizon)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            start = torch.quantile(y[training], torch.as_tensor(LEVELS, dtype=y.dtype), dim=0).T  # [horizon, levels]
            self.network = NETWORKS[self.name](self.context, start)
            self._train(x[training], y[training], x[validation], y[validation])

    def _train(self, x: torch.Tensor, y: torch.Tensor, later_x: torch.Tensor, later_y: torch.Tensor) -> None:
        def validate() -> float:
            with torch.no_grad():
                return quantile_loss(self.network(later_x), later_y).item()

        best, kept, since = validate(), deepcopy(self.network.state_dict()), 0
        steps = self.epochs * -(-len(x) // self.batch)
        optimizer = torch.optim.AdamW(self.network.parameters(), self.learning_rate, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
        for _ in range(self.epochs):
            for rows in torch.randperm(len(x)).split(self.batch):
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
        windows = np.stack([history[-self.context :] for history in histories])
        last, unit = self._last_and_unit(windows)
        quantiles = self.network(_tensor((windows - last) / unit)).double().numpy()
        quantiles.sort(axis=2)  # quantiles learned one by one may cross
        return last[..., None] + unit[..., None] * quantiles

    def _last_and_unit(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both [n, 1]."""
        unit = np.sqrt(np.mean(np.diff(windows, axis=1) ** 2, axis=1, keepdims=True))
        return windows[:, -1:], np.maximum(unit, self.smallest_unit)


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)
