"""The metrics and figures of the trained network."""

from pathlib import Path

from dlcommon.runtime.arrays import Predict
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.evaluation.classification import evaluate_classifier
from dlcommon.runtime.evaluation.figures import classification_figures, save, worst_errors
from dlcommon.runtime.evaluation.result import Evaluation

SHOWN = 40
"""Errors in the figure of the worst."""


def evaluate(predict: Predict, data: LocatedDataSet, figures: Path | None) -> Evaluation:
    loaded = data.load()
    digits, labels, classes = loaded.test_images[:, :, :, 0], loaded.test_labels, loaded.classes
    probabilities = predict({"images": digits})["probabilities"]
    evaluation = evaluate_classifier(probabilities, labels, classes)
    if figures is not None:
        classification_figures(figures, evaluation.tables, evaluation.metrics["expected_calibration_error"])
        worst = worst_errors(digits[:, :, :, None], labels, probabilities, classes, SHOWN)
        if worst is not None:
            save(worst, figures / "worst_errors.png")
    return evaluation
