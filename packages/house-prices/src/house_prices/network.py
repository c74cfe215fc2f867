"""The network: embedded categories and standardized numbers into `dlcommon`'s MLP, beside a linear path."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Self

import numpy as np
import torch
from dlcommon.neural_networks.dropout import Dropout
from dlcommon.neural_networks.initialization import init_weights, kaiming_normal_
from dlcommon.neural_networks.mlp import MLP, fuse_batch_norms
from dlcommon.neural_networks.regularization import param_groups_weight_decay
from dlcommon.runtime.tables.graph import Graph
from torch import nn
from torch.nn import functional as F

from house_prices.regressors import Regressor
from house_prices.scaling import Scaler

WIDTH, DROPOUT, INPUT_DROPOUT = 64, 0.1, 0.1
BATCH, LEARNING_RATE, WEIGHT_DECAY = 64, 0.004, 0.3
EMBEDDING = 4
"""Numbers that a category of more values becomes."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Matrices this small are multiplied sooner than a second thread is woken."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class HouseNetwork(nn.Module):
    """Computes linear regression plus what an MLP finds beyond it ("wide and deep", https://arxiv.org/abs/1606.07792).

    Args:
        groups: where each category's flags stand among the features; the others are numbers. A table of embeddings
            times flags is the embedding of the one that is set, and zeros for a value that training did not have.
    """

    def __init__(self, features: int, groups: Sequence[slice]) -> None:
        super().__init__()
        self.groups = [group for group in groups if group.stop - group.start > EMBEDDING]
        embedded = {place for group in self.groups for place in range(group.start, group.stop)}
        self.plain = [place for place in range(features) if place not in embedded]
        self.embeddings = nn.ModuleList(
            nn.Linear(group.stop - group.start, EMBEDDING, bias=False) for group in self.groups
        )
        self.input_dropout = Dropout(INPUT_DROPOUT)
        self.mlp = MLP(len(self.plain) + EMBEDDING * len(self.groups), [WIDTH], 1, DROPOUT)
        self.linear = nn.Linear(features, 1)
        init_weights(self, partial(kaiming_normal_, gain=1.0))
        nn.init.zeros_(self.linear.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Predicts standardized log prices [rows] from features [rows, features]."""
        x = self.input_dropout(x)
        embedded = [layer(x[:, group]) for layer, group in zip(self.embeddings, self.groups, strict=True)]
        prices: torch.Tensor = self.mlp(torch.cat([x[:, self.plain], *embedded], dim=1)) + self.linear(x)  # [rows, 1]
        return prices.squeeze(1)

    @torch.no_grad()
    def arrays(self) -> dict[str, np.ndarray]:
        """Folds embeddings and batch norms into the trained network's arrays, float32."""
        (first, shift), (last, offset) = fuse_batch_norms(self.mlp)
        mixing = np.zeros((self.linear.in_features, len(first)), np.float32)
        mixing[self.plain, range(len(self.plain))] = 1
        for number, (table, group) in enumerate(zip(self.embeddings, self.groups, strict=True)):
            start = len(self.plain) + EMBEDDING * number
            mixing[group, start : start + EMBEDDING] = table.weight.T.numpy()  # type: ignore[operator]
        return {
            "hidden": mixing @ first,  # [features, width]
            "hidden bias": shift[None],
            "output": last,
            "linear": self.linear.weight.T.numpy(),
            "bias": (offset + self.linear.bias.numpy())[None],
        }


class Network(Regressor):
    """Averages such networks that differ in their seed. In what is kept of them, embeddings and batch norms are
    folded into the layer after them: each is one hidden layer beside a linear map."""

    def __init__(self, groups: Sequence[slice], seed: int, members: int, epochs: int) -> None:
        self.groups, self.seed, self.members, self.epochs = list(groups), seed, members, epochs

    def fit(self, features: np.ndarray, target: np.ndarray) -> Self:
        scaler, mean, deviation = Scaler.fitted(features), target.mean(), target.std()
        inputs = torch.from_numpy(scaler.transform(features))
        wanted = torch.from_numpy(((target - mean) / deviation).astype(np.float32))
        with torch.random.fork_rng(devices=[]), one_thread():
            torch.manual_seed(self.seed)
            members = [self._trained(inputs, wanted).arrays() for _ in range(self.members)]
        stacked = {name: np.stack([member[name] for member in members]) for name in members[0]}
        scales = {"centre": np.array([mean], np.float32), "deviation": np.array([deviation], np.float32)}
        return self.restored({**scaler.arrays, **stacked, **scales})

    def _trained(self, inputs: torch.Tensor, wanted: torch.Tensor) -> HouseNetwork:
        network = HouseNetwork(inputs.size(1), self.groups)
        steps = max(1, len(inputs) // BATCH)
        optimizer = torch.optim.AdamW(param_groups_weight_decay(network, WEIGHT_DECAY), LEARNING_RATE, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, self.epochs * steps, pct_start=0.1)
        for _ in range(self.epochs):
            for rows in torch.randperm(len(inputs))[: steps * BATCH].chunk(steps):
                optimizer.zero_grad()
                torch.autograd.backward(F.mse_loss(network(inputs[rows]), wanted[rows]))
                optimizer.step()
                schedule.step()
        return network.eval()

    def predict(self, features: np.ndarray) -> np.ndarray:
        a, scaled = self.arrays, self.scaler.transform(features)
        hidden = np.maximum(np.einsum("ri,mih->mrh", scaled, a["hidden"]) + a["hidden bias"], 0)
        each = hidden @ a["output"] + scaled @ a["linear"] + a["bias"]  # [members, rows, 1]
        return np.asarray(each.mean(axis=0) * a["deviation"] + a["centre"])[:, 0]

    def write(self, graph: Graph, features: str) -> str:
        scaled, a = self.scaler.write(graph, features), self.arrays
        hidden = graph.add("Add", graph.add("MatMul", scaled, graph.constant(a["hidden"])),
                           graph.constant(a["hidden bias"]))  # fmt: skip
        deep = graph.add("MatMul", graph.add("Relu", hidden), graph.constant(a["output"]))
        wide = graph.add("Add", graph.add("MatMul", scaled, graph.constant(a["linear"])), graph.constant(a["bias"]))
        mean = graph.add("ReduceMean", graph.add("Add", deep, wide), graph.constant([0], np.int64), keepdims=0)
        return graph.add("Add", graph.add("Mul", mean, graph.constant(a["deviation"])), graph.constant(a["centre"]))
