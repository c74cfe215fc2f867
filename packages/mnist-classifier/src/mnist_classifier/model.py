"""The networks and the form in which they are evaluated and exported.

Shapes: digits [batch, 28, 28], uint8; images [batch, 1, 28, 28], normalized.
"""

import json
from collections.abc import Iterator

import numpy as np
import torch
from dlcommon.cnn.plain import PlainCNN
from dlcommon.neural_networks.ensemble import Ensemble
from dlcommon.neural_networks.mlp import MLP
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.export.graph import ExportGraph
from dlcommon.runtime.saved_run import SavedRun
from torch import nn

from mnist_classifier.config import Config

MEAN, STD = 0.1307, 0.3081
"""Mean and standard deviation of MNIST's training pixels, in [0, 1]."""


def build(config: Config, num_classes: int) -> Ensemble:
    """Builds the config's networks with random weights."""
    if config.model == "mlp":
        return Ensemble([MLP(28 * 28, config.widths, num_classes, config.dropout) for _ in config.kernels])
    return Ensemble(
        [PlainCNN(1, config.widths, config.depths, num_classes, kernel, config.dropout) for kernel in config.kernels]
    )


class Normalize(nn.Module):
    """Normalizes digits [batch, 28, 28] in 0 … 255, of any type, to images."""

    def forward(self, digits: torch.Tensor) -> torch.Tensor:
        return ((digits.float() / 255 - MEAN) / STD).unsqueeze(1)


class InferenceModel(nn.Module):
    """Averages the `Ensemble`'s probabilities for digits, at a temperature: [batch, num_classes]."""

    def __init__(self, network: nn.Module, temperature: float = 1.0) -> None:
        super().__init__()
        self.normalize, self.network, self.temperature = Normalize(), network, temperature

    def forward(self, digits: torch.Tensor) -> torch.Tensor:
        mean: torch.Tensor = self.network(self.normalize(digits)).float().softmax(dim=2).mean(dim=0)
        return (mean.clamp_min(1e-12).log() / self.temperature).softmax(dim=1)


def export_graph(saved: SavedRun[Config]) -> ExportGraph:
    """Returns the trained networks of a run as they are exported."""
    config, facts = saved.config, saved.summary["training"]
    classes = facts["classes"]
    network = build(config, len(classes))
    network.load_state_dict(saved.weights())
    metadata = {
        "labels": json.dumps(classes),
        "input": "uint8 [batch, 28, 28], white on black, the ink scaled to 20 pixels and centred by its mass",
        "network": f"{config.model} × {len(config.kernels)}",
    }
    example = {"images": np.zeros((2, 28, 28), dtype=np.uint8)}
    module = InferenceModel(network, facts["temperature"]).eval()
    return ExportGraph(module, example, ("probabilities",), metadata)


def calibration(data: LocatedDataSet) -> Iterator[dict[str, np.ndarray]]:
    """Yields batches of training digits to quantize with."""
    digits = data.load().train_images[:, :, :, 0]
    for start in range(0, min(512, len(digits)), 64):
        yield {"images": digits[start : start + 64]}
