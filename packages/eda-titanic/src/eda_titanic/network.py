"""The multilayer perceptron as a classifier of tables."""

from typing import Self

import numpy as np
import torch
from dlcommon.neural_networks.mlp import MLP, fuse_batch_norms
from dlcommon.runtime.tables.graph import Graph
from torch.nn import functional as F

BATCH, LEARNING_RATE = 128, 0.02
FEWEST_STEPS = 300
"""Small tables are passed over more often, so that the network sees at least so many batches."""


class NetworkClassifier:
    """Classifies by `dlcommon`'s MLP on standardized features, averaged over members that differ in their seed.

    After training each member is a chain of affine layers: standardization and batch norms are fused into them.
    """

    def __init__(self, width: int, dropout: float, epochs: int, members: int, decay: float, seed: int) -> None:
        self.width, self.dropout, self.epochs, self.members = width, dropout, epochs, members
        self.decay, self.seed = decay, seed

    def fit(self, features: np.ndarray, target: np.ndarray) -> Self:
        """Trains the members on features [rows, features] and classes [rows] as 0, 1, …."""
        # In float64, since squares of large numbers overflow in float32.
        mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
        deviation = features.std(axis=0, dtype=np.float64)
        deviation = np.where(deviation > 1e-6, deviation, 1).astype(np.float32)
        inputs = torch.from_numpy((features - mean) / deviation)
        labels, classes = torch.from_numpy(target.copy()), int(target.max()) + 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            trained = [self._train(inputs, labels, classes) for _ in range(self.members)]
        self.layers = [fuse_batch_norms(member, mean, deviation) for member in trained]
        return self

    def _train(self, inputs: torch.Tensor, labels: torch.Tensor, classes: int) -> MLP:
        network = MLP(inputs.size(1), [self.width], classes, self.dropout)
        optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=self.decay, fused=True)
        batches = len(inputs) // BATCH or 1
        epochs = max(self.epochs, -(-FEWEST_STEPS // batches))
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, epochs * batches)
        for _ in range(epochs):
            order = torch.randperm(len(inputs))
            for start in range(0, max(1, len(order) - BATCH + 1), BATCH):  # batch norm needs whole batches
                rows = order[start : start + BATCH]
                optimizer.zero_grad()
                torch.autograd.backward(F.cross_entropy(network(inputs[rows]), labels[rows]))
                optimizer.step()
                schedule.step()
        return network.eval()

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Predicts probabilities [rows, classes], the mean of the members'."""
        return np.asarray(np.mean([_softmax(_logits(layers, features)) for layers in self.layers], axis=0))

    def write(self, graph: Graph, features: str) -> str:
        """Writes the prediction as nodes; returns the name of the probabilities."""
        members = []
        for layers in self.layers:
            value = features
            for number, (weight, bias) in enumerate(layers):
                value = graph.add("Relu", value) if number else value
                value = graph.add("Gemm", value, graph.constant(weight), graph.constant(bias))
            members.append(graph.add("Softmax", value, axis=1))
        return graph.add("Mean", *members)


def _logits(layers: list[tuple[np.ndarray, np.ndarray]], features: np.ndarray) -> np.ndarray:
    value = features
    for number, (weight, bias) in enumerate(layers):
        value = (np.maximum(value, 0) if number else value) @ weight + bias
    return value


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
