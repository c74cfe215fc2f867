"""The metrics and figures of the trained network."""

from pathlib import Path

import numpy as np
from dlcommon.runtime.arrays import Predict
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.evaluation.classification import evaluate_classifier
from dlcommon.runtime.evaluation.figures import classification_figures, picture_grid, save
from dlcommon.runtime.evaluation.result import Evaluation

SHOWN = 40
"""Errors in the picture of the worst."""


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
