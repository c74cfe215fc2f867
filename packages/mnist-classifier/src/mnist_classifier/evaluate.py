"""The trained network as it is evaluated and exported."""

import json
from pathlib import Path

import numpy as np
from dlcommon.runtime.capstone import Evaluation, ExportGraph, Predict
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.evaluation.classification import evaluate_classifier
from dlcommon.runtime.evaluation.figures import classification_figures, picture_grid, save
from dlcommon.runtime.run_directory import SavedRun

from mnist_classifier.config import Config
from mnist_classifier.model import InferenceModel, build

SHOWN = 40
"""Errors in the picture of the worst."""


def export_graph(saved: SavedRun[Config]) -> ExportGraph:
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


def evaluate(predict: Predict, data: LocatedDataSet, figures: Path | None) -> Evaluation:
    loaded = data.load()
    digits, labels, classes = loaded.test_images[:, :, :, 0], loaded.test_labels, loaded.classes
    probabilities = predict({"images": digits})["probabilities"]
    evaluation = evaluate_classifier(probabilities, labels, classes)
    if figures is not None:
        classification_figures(figures, evaluation.tables, evaluation.metrics["expected_calibration_error"])
        predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
        wrong = np.flatnonzero(predicted != labels)
        worst = wrong[np.argsort(-confidence[wrong])][:SHOWN]
        if len(worst):
            captions = [f"{classes[labels[i]]} as {classes[predicted[i]]}, {confidence[i]:.0%}" for i in worst]
            save(picture_grid(list(digits[worst, :, :, None]), captions), figures / "worst_errors.png")
    return evaluation
