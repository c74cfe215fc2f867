"""The trained network as it is evaluated and exported, and its figures."""

import json
from pathlib import Path

import numpy as np
from dlcommon.runtime.capstone import Evaluation, ExportGraph, Predict
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.evaluation.classification import evaluate_classifier
from dlcommon.runtime.evaluation.figures import classification_figures, picture_grid, save
from dlcommon.runtime.evaluation.overlay import heat_overlay
from dlcommon.runtime.run_directory import SavedRun

from cifar10_resnet.config import Config
from cifar10_resnet.model import OUTPUTS, InferenceModel, build

SHOWN = 32
"""Pictures in each grid."""


def export_graph(saved: SavedRun[Config]) -> ExportGraph:
    config, facts = saved.config, saved.summary["training"]
    classes = facts["classes"]
    networks = build(config, len(classes))
    networks.load_state_dict(saved.weights())
    module = InferenceModel(networks, config.tta, facts["temperature"]).eval()
    example = np.zeros((2, 32, 32, 3), dtype=np.uint8)
    labels = {
        "labels": json.dumps(classes),
        "views": "6" if config.tta else "1",
        "network": f"{config.model} × {config.members}",
    }
    return ExportGraph(module, {"images": example}, OUTPUTS, labels)


def evaluate(predict: Predict, data: LocatedDataSet, figures: Path | None) -> Evaluation:
    loaded = data.load()
    images, labels, classes = loaded.test_images, loaded.test_labels, loaded.classes
    outputs = predict({"images": images})
    evaluation = evaluate_classifier(outputs["probabilities"], labels, classes, outputs)
    if figures is not None:
        classification_figures(figures, evaluation.tables, evaluation.metrics["expected_calibration_error"])
        draw_pictures(figures, images, labels, classes, outputs)
    return evaluation


def draw_pictures(
    folder: Path, images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], outputs: dict[str, np.ndarray]
) -> None:
    """The most confident errors, and where the evidence lay in some pictures."""
    probabilities, maps = outputs["probabilities"], outputs["activation_maps"]
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)

    def caption(i: int) -> str:
        return f"{classes[labels[i]]} as\n{classes[predicted[i]]} {confidence[i]:.0%}"

    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong])][:SHOWN]
    if len(worst):
        save(picture_grid([images[i] for i in worst], [caption(i) for i in worst]), folder / "worst_errors.png")
    if maps.size:
        some = np.linspace(0, len(images) - 1, SHOWN // 2).astype(int)
        overlays = [heat_overlay(images[i], maps[i, predicted[i]], 128) for i in some]
        grid = [picture for i, drawn in zip(some, overlays, strict=True) for picture in (images[i], drawn)]
        captions = [text for i in some for text in (classes[labels[i]], f"{classes[predicted[i]]} {confidence[i]:.0%}")]
        save(picture_grid(grid, captions), folder / "evidence.png")
