"""A capstone whose network need not be trained: `eval` and `export` are tested with it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from dlcommon.runtime.capstone import Capstone, Evaluation, ExportGraph, Predict
from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.data import DataSet, ImageClassification, find
from dlcommon.runtime.evaluation.classification import evaluate_classifier
from dlcommon.runtime.evaluation.figures import classification_figures
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.onnx_model import OnnxModel

CLASSES = ("red", "green", "blue")


@dataclass(frozen=True)
class Config(TrainConfig):
    width: int = 64
    noise: float = 0.0


class Network(nn.Module):
    """The larger the colour's sum, the likelier its class; convolutions in between make up its size."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(3, config.width, 3), nn.ReLU(), nn.Conv2d(config.width, config.width, 3))
        self.fc = nn.Linear(config.width, 3)
        self.noise = config.noise

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = images.permute(0, 3, 1, 2) / 255
        images = nn.functional.dropout(images, self.noise, training=self.noise > 0)
        return (10 * images.mean(dim=(2, 3)) + 0.1 * self.fc(self.conv(images).mean(dim=(2, 3)))).softmax(dim=1)


class Toy(Capstone[Config]):
    """Neither trained, `trained` writes its runs, nor served."""

    name = "toy"
    title = LocalizedText("Toy", "玩具")
    summary = LocalizedText("Which colour is it?", "是什么颜色？")
    config = Config
    datasets = ("colours", "shades")
    headline = "accuracy"

    def train(self, run: Any) -> None:
        raise NotImplementedError

    def evaluate(self, predict: Predict, data: Any, figures: Path | None) -> Evaluation:
        loaded = data.load()
        probabilities = predict({"images": loaded.test_images})["probabilities"]
        evaluation = evaluate_classifier(probabilities, loaded.test_labels, loaded.classes)
        if figures is not None:
            classification_figures(figures, evaluation.tables, 0.0)
        return evaluation

    def export_graph(self, saved: Any) -> ExportGraph:
        network = Network(saved.config)
        network.load_state_dict(saved.weights())
        example = {"images": np.zeros((2, 8, 8, 3), dtype=np.uint8)}
        return ExportGraph(network.eval(), example, ("probabilities",), {"labels": json.dumps(CLASSES)})

    def calibration(self, data: Any) -> Iterator[dict[str, np.ndarray]]:
        yield {"images": data.load().train_images}

    def service(self, model: OnnxModel) -> Any:
        raise NotImplementedError


def colours(classes: tuple[str, ...]) -> ImageClassification:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 60)
    images = random.integers(0, 128, (60, 8, 8, 3)) + 100 * np.eye(3, dtype=int)[labels][:, None, None, :]
    return ImageClassification(images.astype(np.uint8), labels, images.astype(np.uint8), labels, classes)


def data_set(name: str, classes: tuple[str, ...]) -> DataSet:
    return DataSet(
        name, LocalizedText(name, name), name, "none", "", load=lambda folder: colours(classes), builtin=True
    )


def trained(tmp_path: Path, seed: int = 0, nan: bool = False, **options: Any) -> Path:
    """A finished run, as `train` leaves it."""
    folder = tmp_path / "runs" / "toy" / f"colours-{seed}"
    folder.mkdir(parents=True)
    config = Config(data="colours", seed=seed, **options)
    config.save(folder / "config.json")
    torch.manual_seed(seed)
    weights = Network(config).state_dict()
    if nan:
        weights["fc.bias"] = weights["fc.bias"] * torch.nan
    save_file(weights, folder / "model.safetensors")
    located = find("colours")
    assert located is not None
    summary = {
        "capstone": "toy",
        "preset": "default",
        "command": "toy train",
        "data": {
            "name": "colours",
            "builtin": True,
            "fingerprint": located.fingerprint(),
            "description": located.describe(),
        },
        "seed": seed,
        "training": {"minutes": 0.1, "device": "cpu", "precision": "fp32", "classes": list(CLASSES)},
        "hardware": {"processor": "abacus", "cores": 1, "gpus": [], "versions": {"torch": torch.__version__}},
        "git": None,
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder
