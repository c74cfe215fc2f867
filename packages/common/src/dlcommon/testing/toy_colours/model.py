"""The toy's network, which tells colours apart without training."""

import json
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.export.graph import ExportGraph
from dlcommon.runtime.saved_run import SavedRun
from dlcommon.testing.toy_colours.config import CLASSES, Config


class Network(nn.Module):
    """Computes class probabilities [batch, 3] from the mean of each colour channel of uint8 images [batch, h, w, 3].

    The convolutions add little to the logits; they give the network a realistic size.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(3, config.width, 3), nn.ReLU(), nn.Conv2d(config.width, config.width, 3))
        self.fc = nn.Linear(config.width, 3)
        self.noise = config.noise

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = images.permute(0, 3, 1, 2) / 255
        images = nn.functional.dropout(images, self.noise, training=self.noise > 0)
        logits: torch.Tensor = 10 * images.mean(dim=(2, 3)) + 0.1 * self.fc(self.conv(images).mean(dim=(2, 3)))
        return logits.softmax(dim=1)


def export_graph(saved: SavedRun[Config]) -> ExportGraph:
    network = Network(saved.config)
    network.load_state_dict(saved.weights())
    example = {"images": np.zeros((2, 8, 8, 3), dtype=np.uint8)}
    return ExportGraph(network.eval(), example, ("probabilities",), {"labels": json.dumps(CLASSES)})


def calibration(data: LocatedDataSet) -> Iterator[dict[str, np.ndarray]]:
    yield {"images": data.load().train_images}
